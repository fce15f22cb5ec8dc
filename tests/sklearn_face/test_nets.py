"""Nets as estimators: what X may be, what parameters do, what a pickle holds, what errors say."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from torch import nn

import stackfeat as sf
from stackfeat.errors import DataError, MemberError, TapError
from stackfeat.members.net_options import NetOptions
from stackfeat.nets.options import TrainOptions

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(80, 4))
SIGN = TABLE[:, 0] > 0
IMAGES = RNG.normal(size=(80, 3, 4)).astype(np.float32)
BRIGHT = IMAGES[:, 0, 0] > 0


def tiny(kind: Any = sf.NetClassifier, **changed: Any) -> Any:
    values = {"net_params": {"hidden": [8]}, "epochs": 15, "batch_size": 16, "lr": 0.02, "random_state": 0}
    return kind(**{**values, **changed})


def image_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))


class TwoInputs(nn.Module):
    def __init__(self, shapes: dict[str, tuple[int, ...]], n_outputs: int, width: int = 4) -> None:
        super().__init__()
        self.a = nn.Linear(int(np.prod(shapes["image"])), width)
        self.b = nn.Linear(shapes["numbers"][0], width)
        self.out = nn.Linear(2 * width, n_outputs)

    def forward(self, numbers: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.a(image.flatten(1)), self.b(numbers)], dim=1)
        return self.out(joined.relu())


@pytest.mark.parametrize("kind", [sf.NetClassifier, sf.NetRegressor])
def test_every_training_option_is_a_parameter(kind: Any) -> None:
    missing = set(TrainOptions.model_fields) - set(kind().get_params())
    assert missing <= ({"class_weight", "label_smoothing"} if kind is sf.NetRegressor else set())


def test_defaults_are_those_of_a_config() -> None:
    options = sf.NetClassifier().net_options("binary")
    assert options.train == TrainOptions()
    assert sf.NetRegressor().net_options("regression").train == TrainOptions()
    assert options.net == "mlp" and options.scaling == NetOptions(net="mlp").scaling == "auto"


def test_parameters_reach_training() -> None:
    net = tiny(label_smoothing=0.1, schedule="constant", weight_decay=0.5, class_weight="balanced")
    train = net.net_options("binary").train
    assert (train.label_smoothing, train.schedule, train.weight_decay) == (0.1, "constant", 0.5)
    assert (train.epochs, train.batch_size, train.lr, train.class_weight) == (15, 16, 0.02, "balanced")


def test_what_suits_a_net_holds_where_nothing_is_given() -> None:
    """As in a config: the table of nets, and `train_defaults` of a class."""

    class Own(nn.Linear):
        train_defaults: ClassVar = {"weight_decay": 0.5, "regression": {"lr": 0.3}}

    train = sf.NetClassifier("realmlp").net_options("binary").train
    assert (train.base_lr, train.schedule, train.clip_norm) == (0.04, "coslog4", None)
    assert sf.NetClassifier("realmlp", schedule="cosine", lr=0.1).net_options("binary").train.lr == 0.1
    assert sf.NetRegressor(Own).net_options("regression").train == TrainOptions(weight_decay=0.5, lr=0.3)
    assert sf.NetClassifier(Own, weight_decay=0.0).net_options("binary").train == TrainOptions(
        weight_decay=0.0
    )


@pytest.mark.parametrize(
    ("given", "are_few"),
    [({"epochs": 9}, True), ({"batch_size": 80}, False), ({"epochs": 19, "batch_size": 16}, True)],
    ids=["45 steps", "a floor", "95 steps"],
)
def test_too_few_steps_are_a_warning_that_says_what_to_do(given: dict[str, Any], are_few: bool) -> None:
    net = sf.NetClassifier(net_params={"hidden": [8]}, random_state=0, **given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.fit(TABLE, SIGN)
    said = [str(one.message) for one in caught if issubclass(one.category, ConvergenceWarning)]
    assert len(said) == are_few, "a floor of steps holds where epochs are not given"
    if are_few:
        assert re.match(r"mlp is trained for fewer than 100 steps, .*raise epochs, lower batch_size", said[0])
        assert "\n" not in said[0]


def test_a_warm_start_of_few_steps_is_no_reason_to_warn() -> None:
    net = tiny(epochs=25, warm_start=True).fit(TABLE, SIGN).set_params(epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        net.fit(TABLE, SIGN)


@pytest.mark.parametrize("module", ["mlp", "stackfeat.nets.zoo.mlp:MLP"])
def test_a_name_and_its_path_are_the_same_net(module: str) -> None:
    fitted = tiny(module=module).fit(TABLE, SIGN)
    assert np.array_equal(fitted.predict_proba(TABLE), tiny().fit(TABLE, SIGN).predict_proba(TABLE))


def test_a_factory_builds_the_net() -> None:
    def factory(n_features: int, n_outputs: int, width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_outputs))

    net = tiny(module=factory, net_params={"width": 5}).fit(TABLE, SIGN)
    assert net.module_[0].weight.shape == (5, 4)
    assert net.score(TABLE, SIGN) > 0.9


def test_a_module_is_never_trained_itself() -> None:
    module = image_net()
    before = copy.deepcopy(module.state_dict())
    net = tiny(module=module, net_params=None).fit(IMAGES, BRIGHT)
    assert all(torch.equal(before[name], values) for name, values in module.state_dict().items())
    assert not torch.equal(net.module_[1].weight, module[1].weight)
    assert net.score(IMAGES, BRIGHT) > 0.9
    again = clone(net).fit(IMAGES, BRIGHT)
    assert np.array_equal(again.predict_proba(IMAGES), net.predict_proba(IMAGES))


def test_several_inputs_go_by_name_in_any_order() -> None:
    X = {"image": IMAGES, "numbers": TABLE}
    net = tiny(module=TwoInputs, net_params={"width": 6}).fit(X, BRIGHT)
    assert net.score(X, BRIGHT) > 0.9
    turned = {"numbers": TABLE, "image": IMAGES}
    assert np.array_equal(net.predict_proba(turned), net.predict_proba(X))


def frame(n_rows: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "number": np.where(rng.random(n_rows) < 0.1, np.nan, rng.normal(size=n_rows)),
            "text": rng.choice(["red", "green", "blue"], n_rows),
            "category": pd.Categorical(rng.choice([1, 2], n_rows)),
            "flag": rng.random(n_rows) > 0.5,
        }
    )


def test_text_and_categories_of_a_frame_are_encoded() -> None:
    X = frame()
    net = tiny().fit(X, (X["text"] == "red").to_numpy())
    assert net.score(X, X["text"] == "red") == 1.0
    assert net.fitted_.prepare["table"].cardinalities == (4, 3)
    assert list(net.feature_names_in_) == list(X.columns)
    assert np.isfinite(net.predict_proba(X.assign(text="never seen"))).all()
    with pytest.raises(ValueError, match="feature names"):
        net.predict(X[["text", "number", "category", "flag"]])


def test_text_in_an_array_is_encoded_as_in_a_frame() -> None:
    X = frame()[["number", "text"]]
    y = (X["text"] == "red").to_numpy()
    of_array = tiny().fit(X.to_numpy(dtype=object), y).predict_proba(X.to_numpy(dtype=object))
    assert np.array_equal(of_array, tiny().fit(X, y).predict_proba(X))


def test_missing_numbers_are_filled_in_and_infinite_ones_refused() -> None:
    X = TABLE.copy()
    X[::7, 1] = np.nan
    assert np.isfinite(tiny().fit(X, SIGN).predict_proba(X)).all()
    X[3, 2] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        tiny().fit(X, SIGN)


def test_scaling_none_hands_over_the_array_as_it_is() -> None:
    codes = RNG.integers(0, 9, size=(80, 5))
    module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 2))
    net = tiny(module=module, net_params=None, scaling="none").fit(codes, codes[:, 0] > 4)
    assert net.arrays(codes)[0].dtype == codes.dtype
    assert net.score(codes, codes[:, 0] > 4) > 0.9
    with pytest.raises(ValueError, match="NaN"):
        tiny(scaling="none").fit(np.where(TABLE > 2, np.nan, TABLE), SIGN)


def test_several_targets_are_learnt_each_on_its_scale() -> None:
    targets = np.column_stack([TABLE[:, 0], 1000 * TABLE[:, 1] + 5000])
    net = tiny(sf.NetRegressor, epochs=80).fit(TABLE, targets)
    assert net.predict(TABLE).shape == (80, 2)
    exact = LinearRegression().fit(TABLE, targets).predict(TABLE)
    assert (np.abs(net.predict(TABLE) - exact).mean(axis=0) < 0.25 * targets.std(axis=0)).all()
    assert net.predict(TABLE)[:, 1].mean() == pytest.approx(5000, rel=0.1)
    assert tiny(sf.NetRegressor).fit(TABLE, targets[:, 0]).predict(TABLE).shape == (80,)


def test_the_loss_of_several_targets_is_the_mean_over_them() -> None:
    from stackfeat.nets.outputs import Head, row_losses

    output, y = torch.randn(6, 3), torch.randn(6, 3)
    for loss, by_hand in (("mse", (output - y) ** 2), ("mae", (output - y).abs())):
        found = row_losses(Head("value"), loss, output, y, 0.0)
        torch.testing.assert_close(found, by_hand.mean(dim=1))


def test_random_state_decides_the_bytes() -> None:
    first, again = (tiny().fit(TABLE, SIGN).predict_proba(TABLE) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, tiny(random_state=1).fit(TABLE, SIGN).predict_proba(TABLE))


def test_seeds_are_averaged() -> None:
    net = tiny(seeds=3).fit(TABLE, SIGN)
    arrays = net.arrays(TABLE)
    by_hand = np.mean([one.predict(arrays) for one in net.fitted_.nets], axis=0)
    assert len(net.fitted_.nets) == 3
    np.testing.assert_array_equal(net.predict_proba(TABLE), by_hand)


def test_embed_is_what_the_module_computes() -> None:
    net = tiny(module=image_net(), net_params=None).fit(IMAGES, BRIGHT)
    with torch.no_grad():
        by_hand = net.module_[:3](torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(net.embed(IMAGES)["penultimate"], by_hand, atol=1e-6)
    np.testing.assert_allclose(net.embed(IMAGES, ["2"])["2"], by_hand, atol=1e-6)


def test_early_stopping_sets_rows_aside() -> None:
    noise = RNG.random(80) > 0.5
    net = tiny(epochs=60, patience=3, early_stopping="inner").fit(TABLE, noise)
    assert net.n_iter_ < 60 and len(net.validation_curve_) == net.n_iter_
    assert tiny().fit(TABLE, noise).validation_curve_ == []
    asked = tiny(early_stopping=True).net_options("binary").train
    assert (asked.early_stopping, asked.patience) == ("refit", 10)
    assert tiny(early_stopping=False).net_options("binary").train.stopping == "fixed"


def test_warm_start_goes_on_from_the_last_weights() -> None:
    net = tiny(epochs=2, warm_start=True, schedule="constant", lr=1e-3)
    losses = [net.fit(TABLE, SIGN).loss_curve_[0] for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    cold = net.set_params(warm_start=False).fit(TABLE, SIGN).loss_curve_[0]
    assert cold == losses[0]
    with pytest.raises(ValueError, match="warm_start must go on with the classes"):
        net.set_params(warm_start=True).fit(TABLE, RNG.integers(0, 3, 80))


def test_weights_of_rows_and_classes_move_the_prediction() -> None:
    noise = np.arange(80) % 2
    heavy = np.where(noise == 1, 9.0, 1.0)
    weighted = tiny(epochs=30).fit(TABLE, noise, sample_weight=heavy)
    assert weighted.predict_proba(TABLE)[:, 1].mean() > 0.75
    by_class = tiny(epochs=30, class_weight={0: 1.0, 1: 9.0}).fit(TABLE, noise)
    np.testing.assert_array_equal(by_class.predict_proba(TABLE), weighted.predict_proba(TABLE))


def test_log_probabilities_and_decisions_follow_the_probabilities() -> None:
    three = RNG.integers(0, 3, 80)
    for y in (SIGN, three):
        net = tiny().fit(TABLE, y)
        proba, decision = net.predict_proba(TABLE), net.decision_function(TABLE)
        np.testing.assert_allclose(np.exp(net.predict_log_proba(TABLE)), proba, rtol=1e-12)
        if y is three:
            np.testing.assert_allclose(np.exp(decision) / np.exp(decision).sum(1, keepdims=True), proba)
        else:
            np.testing.assert_allclose(1 / (1 + np.exp(-decision)), proba[:, 1])


def test_verbose_prints_a_line_a_fit_or_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    tiny(epochs=3).fit(TABLE, SIGN)
    assert capsys.readouterr().out == ""
    tiny(epochs=3, verbose=1).fit(TABLE, SIGN)
    assert capsys.readouterr().out.startswith("[NetClassifier] 3 epochs, loss")
    tiny(epochs=3, verbose=2).fit(TABLE, SIGN)
    assert capsys.readouterr().out.count("  epoch ") == 3


def test_searches_reach_every_parameter() -> None:
    grid = {"lr": [1e-4, 0.02], "net_params": [{"hidden": [4]}, {"hidden": [8]}]}
    search = GridSearchCV(tiny(epochs=10), grid, cv=2).fit(TABLE, SIGN)
    assert search.best_params_["lr"] == 0.02
    drawn = RandomizedSearchCV(tiny(epochs=4), {"batch_size": [8, 16, 32]}, n_iter=2, cv=2, random_state=0)
    assert drawn.fit(TABLE, SIGN).best_params_["batch_size"] in (8, 16, 32)


@pytest.mark.parametrize("module", ["mlp", image_net()], ids=["name", "module"])
def test_a_pickle_holds_weights_and_no_hooks(module: Any) -> None:
    X = TABLE if module == "mlp" else IMAGES
    net = tiny(module=module, net_params=None, epochs=3).fit(X, SIGN)
    net.embed(X)
    data = pickle.dumps(net)
    read = pickle.loads(data)
    assert np.array_equal(read.predict_proba(X), net.predict_proba(X))
    for part in read.module_.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks
    net.module_.register_forward_hook(lambda *args: None)
    assert all(not part._forward_hooks for part in pickle.loads(pickle.dumps(net)).module_.modules())


def test_threads_may_be_whatever_counts_as_a_whole_number() -> None:
    one = tiny(epochs=2, threads=1).fit(TABLE, SIGN).predict_proba(TABLE)
    for threads in (True, np.int32(1)):
        assert np.array_equal(tiny(epochs=2, threads=threads).fit(TABLE, SIGN).predict_proba(TABLE), one)


def test_a_net_trained_on_a_gpu_is_read_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny(epochs=2).fit(TABLE, SIGN)
    before = net.predict_proba(TABLE)
    one = net.fitted_.nets[0]
    # As pickled on a machine with a GPU: the state names the device, weights are bytes of the CPU.
    state = {**one.__getstate__(), "device": "cuda"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    one.__setstate__(state)
    assert one.device.type == "cpu"
    assert np.array_equal(net.predict_proba(TABLE), before)


class Own(nn.Module):
    """A net of one's own with a parameter."""

    def __init__(self, n_features, n_outputs, width=4):  # type: ignore[no-untyped-def]
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_outputs))

    def forward(self, x: Any) -> Any:
        return self.layers(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tiny(module="mlpp").fit(TABLE, SIGN), ValueError, "Did you mean 'mlp'"),
        (lambda: tiny(module=3).fit(TABLE, SIGN), ValueError, "module must be a name such as 'mlp'"),
        (lambda: tiny(module=image_net()).fit(IMAGES, SIGN), ValueError, "net_params must be None"),
        (
            lambda: tiny(net_params={"hiden": [3]}).fit(TABLE, SIGN),
            ValueError,
            r"net_params: mlp has no parameter 'hiden'; it takes hidden, .*\. Did you mean 'hidden'\?",
        ),
        (
            lambda: tiny(net_params={"hidden": "wide"}).fit(TABLE, SIGN),
            ValueError,
            "net_params: must be a list of whole numbers of at least 1; got 'wide'",
        ),
        (
            lambda: tiny(module=Own, net_params={"widht": 3}).fit(TABLE, SIGN),
            MemberError,
            r"must fit Own\(n_features, n_outputs, width=4\); .*'widht'.* Did you mean 'width'\?",
        ),
        (lambda: tiny(early_stopping="refit").fit(TABLE, SIGN), ValueError, "refit needs patience"),
        (lambda: tiny(lr=-1).fit(TABLE, SIGN), ValueError, "'lr' parameter of NetClassifier"),
        (lambda: tiny(loss="mse").fit(TABLE, SIGN), ValueError, "loss must fit the task"),
        (lambda: tiny(device="gpu").fit(TABLE, SIGN), ValueError, "device must be one of"),
        (
            lambda: tiny().fit(TABLE, np.zeros(80)),
            ValueError,
            "NetClassifier must have at least 2 classes in y; got 1",
        ),
        (lambda: tiny().fit({}, SIGN), ValueError, "at least one input"),
        (
            lambda: (
                tiny(module=TwoInputs, net_params=None)
                .fit({"image": IMAGES, "numbers": TABLE}, SIGN)
                .predict({"image": IMAGES, "number": TABLE})
            ),
            ValueError,
            "Did you mean 'numbers'",
        ),
        (
            lambda: tiny(module=image_net(), net_params=None).fit(IMAGES, SIGN).predict(IMAGES[:, :2]),
            ValueError,
            "2 features|must have shape",
        ),
        (lambda: tiny().fit(frame(), SIGN).predict(frame().replace(np.nan, np.inf)), DataError, "finite"),
    ],
)
def test_what_cannot_be_is_said(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_patterns_types_and_open_items_are_read_under_a_key_for_each_layer() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    net = sf.NetClassifier(module, epochs=1).fit(x, np.arange(20) % 2)
    trained = net.fitted_.nets[0].module
    for taps, keys in (
        ("*", ["0", "1", "2"]),
        (sf.Tap(type=nn.Linear), ["0", "2"]),
        (["2", "?"], ["2", "0", "1"]),
        ("0[*]", ["0"]),
        (trained[1], ["1"]),
        (["penultimate", "**"], ["penultimate", "0", "1", "2"]),
    ):
        assert list(net.embed(x, taps)) == keys
    for wrong in (5, None, [None]):
        with pytest.raises(TapError, match="a tap must be text, a Tap or a layer"):
            net.embed(x, wrong)
