"""Commands that read nets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stackfeat.cli.app import (
    Answer,
    DataRoots,
    Overrides,
    TrustCode,
    app,
    given,
    is_quiet,
)

NetParams = Annotated[
    str, typer.Option(metavar="JSON", help="Arguments of the class, as JSON or a file of it.")
]

NetWeights = Annotated[Path | None, typer.Option(help="State dict: .safetensors, or .pt with tensors only.")]


@app.command()
def extract(
    context: typer.Context,
    net: Annotated[str, typer.Argument(metavar="NET", help="The net's class or factory: pkg.mod:Net.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="npy, or npz by names of forward; repeatable: by position.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write to.")],
    taps: Annotated[
        list[str] | None, typer.Option(help="Where to read; repeatable. Default: penultimate.")
    ] = None,
    weights: NetWeights = None,
    params: NetParams = "",
    file_format: Annotated[str, typer.Option("--format", help="npy, npz, mat, parquet or csv.")] = "npy",
    batch_size: Annotated[str, typer.Option(help="Rows of a pass; auto: by timing.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    pool: Annotated[str, typer.Option(help="auto, none, flatten, mean, max, cls or last.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bf16 or autocast.")] = "float32",
    trust_code: TrustCode = False,
) -> Answer:
    """Read layers of a trained net for every row of a file. An interrupted call resumes where it stopped."""
    from stackfeat.cli.extract import NetSource, extract_files

    source = NetSource(net, params, weights, trust_code)
    options = {
        "taps": taps or ["penultimate"],
        "device": device,
        "pool": pool,
        "precision": precision,
        "progress": not is_quiet(context),
    }
    found = extract_files(
        source, data, output, file_format=file_format, batch_size=batch_size, options=options
    )
    return Answer(found.to_json(), str(found))


@app.command()
def layers(
    net: Annotated[str, typer.Argument(metavar="NET", help="A config file, or a class: pkg.mod:Net.")],
    member: Annotated[str, typer.Argument(metavar="[MEMBER]", help="A net member of the config.")] = "",
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="SHAPE", help="Such as 2x3x224x224 or 2x16:int64; repeatable."),
    ] = None,
    weights: NetWeights = None,
    params: NetParams = "",
    functions: Annotated[
        bool, typer.Option("--functions", help="Also the functions of torch that layers call.")
    ] = False,
    set_: Overrides = None,
    trust_code: TrustCode = False,
    data_root: DataRoots = None,
) -> Answer:
    """List the layers of a net. For each: what it gives in a dry run, or why it cannot be tapped."""
    from stackfeat.cli.extract import NetSource, layers_of_member, layers_of_net

    if member:
        options = given(set_, trust_code, data_root)
        found = layers_of_member(Path(net), member, functions=functions, **options)
    else:
        source = NetSource(net, params, weights, trust_code)
        found = layers_of_net(source, input_ or (), functions=functions)
    return Answer(found.to_json(), str(found))
