"""The command `pack`: images as shards that training streams."""

from __future__ import annotations

from ..progress import tell
from ..text import counted, for_shell
from .app import TRAINING, app, options_of, print_json, reporter
from .options import Json, Reading


@app.command(group=TRAINING)
def pack(data: str, out: str, /, *, reading: Reading = Reading(), json: Json = False) -> None:
    """Write the images of DATA as shards of Parquet into the folder OUT, in an order of chance, for training to stream.

    Files are taken as they are; with --image-size they are decoded, resized and stored as PNG, which is quicker to train on.
    Labels and splits stay. The library datasets reads the shards too. After a kill, run the same command again: it goes on
    with the shards that are missing.

    Parameters
    ----------
    data
        What 'reparam train' takes.
    out
        A new folder, or one that this command began.
    """
    from ..data.pack import pack as write

    report = reporter(json)
    packed = write(data, out, options=options_of(reading), progress=lambda done, total: report.count("packing", done, total))
    if json:
        print_json({"out": str(packed.folder), "shards": packed.shards, "images": packed.images,
                    "skipped": [each._asdict() for each in packed.skipped]})
        return
    for each in packed.skipped[:5]:
        tell(f"left out {each.name}: {each.reason}")
    more = f", {counted(len(packed.skipped), 'file')} left out" if packed.skipped else ""
    tell(f"{counted(packed.images, 'image')} in {counted(packed.shards, 'shard')}{more}: {packed.folder}. Next:",
         f"  reparam train {for_shell(str(packed.folder))}")
