"""predict: later rows through the saved predictor of a run, written like its submission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stackfeat.data.load import load_rows
from stackfeat.data.options import DataOptions
from stackfeat.data.schema import Schema
from stackfeat.ensemble.decision import Decision
from stackfeat.ensemble.predictor import load_predictor
from stackfeat.output.files import write_csv
from stackfeat.output.submission import Form, make_submission
from stackfeat.registry.trust import code_of_run, explaining_refusals
from stackfeat.registry.user_code import importing


def predict_file(
    run_folder: Path,
    data: Path,
    output: Path,
    *,
    trust_code: bool | None = None,
    without: Sequence[str] = (),
) -> int:
    """Predict the rows of a file; return how many there are.

    Parameters
    ----------
    run_folder : Path
        Folder of a finished run, with its `predictor/`.
    data : Path
        A file with the columns of the training file; a target column is ignored.
    output : Path
        A csv file like the submission of the run.
    trust_code : bool, optional
        Needed where the run needed it. None: unless `stackfeat trust` remembers the config that made this
        very folder; False: not even then.
    without : sequence of str
        Members that votes shall do without, such as imported ones that do not know these rows.

    Raises
    ------
    DataError
        If there is no predictor, or the file's columns do not fit.
    """
    code = code_of_run(Path(run_folder), trust_code)
    with explaining_refusals(code):
        predictor, values = load_predictor(Path(run_folder) / "predictor", trust_code=code.is_trusted)
    predictor = predictor.leave_out(without) if without else predictor
    schema = Schema.from_json(values["schema"])
    samples = load_rows(Path(data), schema, DataOptions(**values["data"]))
    with explaining_refusals(code), importing(code.beside(Path(run_folder) / values["code"])):
        prediction = np.asarray(predictor.task.to_target_scale(predictor.predict(samples)))
    labels = None if values["decision"] is None else Decision.from_json(values["decision"]).apply(prediction)
    form = Form.from_json(values["form"])
    submission = make_submission(samples.ids, prediction, labels, predictor.task, form)
    write_csv(Path(output), submission.header, submission.columns)
    return samples.n_rows
