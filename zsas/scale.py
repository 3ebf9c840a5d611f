"""The same work on many processes or machines, on Ray Data.

The driver lists images and writes records; actors hold the models, read images, and encode them in batches.
Whatever is written twice is written the same, so a worker that dies is simply replaced and its batch
given to another: `Ray` does that. An image that kills its worker every time becomes a row with an error.
Needs the extra `ray`.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError, reason
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.datasets.samples import Dataset
    from zsas.evaluation.conditions import Condition
    from zsas.evaluation.records import Store
    from zsas.pipeline import Segmenter

    Make = Callable[[], Segmenter]

ROWS_A_PART = 256
SECONDS_A_PART = 30.0
RETRIES = 3
PATIENCE = {
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
}
"""A local cluster on a machine whose cores are taken needs minutes to start; Ray would give up after one."""


def segment(
    images: Sequence[str],
    out: Path,
    settings: Settings,
    *,
    model: Mapping[str, Any] | None = None,
    stages: bool = False,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    batch: int | None = None,
    make: Make | None = None,
) -> Iterator[dict[str, Any]]:
    """Segment many images on a Ray cluster; images with a row from an earlier run are left out, failures excepted.

    `out` gets `masks/<image>.png` and `results/part-*.parquet` with one row an image: `image`, `mask`, `error`,
    `anomalous`, `image_score`, `width`, `height`, and `result`, the JSON of `Result.to_dict` with every region's
    run-length code. It must be a folder that all machines of the cluster share.

    Args:
        images: Files and folders, local or as addresses that fsspec knows (s3://, gs://, hf://).
        out: Folder for masks and rows.
        settings: All knobs.
        model: Arguments of `Segmenter.from_preset`.
        stages: Write every stage's picture as well, to `stages/<image>/`.
        address: The cluster; None starts one on this machine for as long as it takes.
        workers: How many actors hold the models; None takes one for each GPU, or for each core without.
        gpus_per_worker: Share of a GPU for each; None takes a whole one where there are GPUs.
        batch: Images encoded together; None takes 16 with a GPU and 1 without.
        make: What makes the segmenter in an actor, instead of `model`.

    Yields:
        Each new row as a dict, in the order of completion, with the result's entries as `Result.to_dict` has them.

    Raises:
        ZsasError: If Ray is missing, the cluster cannot be reached, the models cannot be had, or `out` holds
            another run.
    """
    out = Path(out).absolute()
    model = _named(model, make)
    rows = _Rows(out, {"settings": settings.to_dict(), "model": _plain(model)})
    jobs = plan_masks(images, out, rows.masks)
    waiting = [job for job in jobs if job["image"] not in rows.masks]
    if not waiting:
        return
    work = {"kind": "segment", "settings": settings, "out": str(out), "stages": stages}
    with _cluster(address) as ray, rows:
        for row in _run(ray, waiting, work, model, make, workers, gpus_per_worker, batch):
            row.pop("id")
            rows.put(row)
            yield _shown(row)


def evaluate(
    data: Dataset,
    conditions: Sequence[Condition],
    store: Store,
    *,
    model: Mapping[str, Any] | None = None,
    side: int = 0,
    batch: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    make: Make | None = None,
) -> None:
    """`zsas.evaluation.run.evaluate` on a Ray cluster; the driver alone writes to the store.

    Args:
        data: The images, on storage that all machines of the cluster share, at an address, or on the Hub.
        conditions: Rows of the table.
        store: Where records go.
        side: See `zsas.evaluation.run.measure`.
        progress: Told how many of how many images are done.
        model, batch, address, workers, gpus_per_worker, make: See `segment`.

    Raises:
        ZsasError: If Ray is missing, the cluster cannot be reached, or the models cannot be had.
    """
    from zsas.evaluation.records import Record

    samples = {sample.key: sample for sample in data if sample.key not in store.done}
    jobs = [{"id": key, "sample": pickle.dumps(sample)} for key, sample in samples.items()]
    work = {"kind": "evaluate", "conditions": list(conditions), "side": side}
    progress(len(store.done), len(data))
    with _cluster(address) as ray:
        model = _named(model, make)
        for row in _run(ray, jobs, work, model, make, workers, gpus_per_worker, batch):
            if "error" in row:
                sample = samples[row["id"]]
                store.put(
                    Record(
                        sample.key, sample.category, sample.kind, sample.defective, (), row["error"]
                    )
                )
            else:
                store.put(pickle.loads(row["record"]))
            progress(len(store.done), len(data))


def plan_masks(
    sources: Sequence[str], out: Path, known: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Each image with the file of its mask below `out`.

    Args:
        sources: Files and folders; of a folder, the masks and stages of `out` and results of `zsas segment` are
            left out.
        out: Folder of the run.
        known: Image to mask of earlier calls for the same `out`, whose names are taken.

    Raises:
        ZsasError: If there is no image, or an address cannot be listed.
    """
    from zsas.images import SUFFIXES, find_images, is_result

    known = known or {}
    ours = [(out / name).resolve() for name in ("masks", "stages")]
    found: dict[str, str] = {}
    for source in sources:
        if "://" not in source:
            root = Path(os.path.expanduser(source)).absolute()
            for file in find_images([root]):
                made_here = any(file.resolve().is_relative_to(folder) for folder in ours)
                if root.is_dir() and (made_here or is_result(file)):
                    continue
                local = file.relative_to(root) if root.is_dir() else Path(file.name)
                found.setdefault(str(file), local.as_posix())
            continue
        import fsspec

        try:
            system, root_path = fsspec.core.url_to_fs(source)
            listed = [root_path] if system.isfile(root_path) else sorted(system.find(root_path))
        except (OSError, ImportError, ValueError) as error:
            raise ZsasError(f"{source} cannot be listed ({reason(error)}).") from None
        for path in listed:
            if path.lower().endswith(SUFFIXES):
                name = path.removeprefix(root_path).strip("/") or Path(path).name
                found.setdefault(system.unstrip_protocol(path), name)
    if not found:
        raise ZsasError(
            f"There is no image in {', '.join(sources)}; name images, or folders with images."
        )
    taken = {mask.lower() for mask in known.values()}
    jobs = []
    for image, name in found.items():
        # The suffix stays in the name, so that gear.png and gear.jpg do not meet; equal names get a digest.
        mask = known.get(image, f"masks/{name}.png")
        if image not in known and mask.lower() in taken:
            mask = f"masks/{name}.{hashlib.sha256(image.encode()).hexdigest()[:8]}.png"
        taken.add(mask.lower())
        jobs.append({"id": image, "image": image, "mask": mask})
    return jobs


class _Worker:
    """An actor: holds the models and does one batch after the other."""

    def __init__(self, make: Make, work: Mapping[str, Any], folder: str) -> None:
        import torch

        if Path(folder).is_dir():
            os.chdir(folder)  # paths of the driver mean the same here
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self.work = work
        self.hindrance = ""
        try:
            self.segmenter = make()
        except ZsasError as error:  # raised here, Ray would try again and hide the sentence
            self.hindrance = str(error)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        jobs = [pickle.loads(job) for job in batch["job"]]
        if self.hindrance:
            return {"row": [pickle.dumps({"hindrance": self.hindrance})]}
        do = self._measure if self.work["kind"] == "evaluate" else self._segment
        try:
            rows = do(jobs)
        except Exception:  # too much for one batch, or one image's fault: each for itself
            rows = []
            for job in jobs:
                try:
                    rows += do([job])
                except Exception as error:  # one photo must not stop the rest
                    why = reason(error)
                    row = {"image": job.get("image", ""), "mask": ""}
                    rows.append({**row, "error": f"{job['id']} could not be processed ({why})."})
        pairs = zip(rows, jobs, strict=True)
        return {"row": [pickle.dumps({**row, "id": job["id"]}) for row, job in pairs]}

    def _measure(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        from zsas.evaluation.run import measure_each

        samples = [pickle.loads(job["sample"]) for job in jobs]
        records = measure_each(self.segmenter, samples, self.work["conditions"], self.work["side"])
        return [{"record": pickle.dumps(record)} for record in records]

    def _segment(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(min(8, len(jobs))) as readers:
            photos = list(readers.map(lambda job: _read(job["image"]), jobs))
        good = [i for i, photo in enumerate(photos) if not isinstance(photo, str)]
        rows: list[dict[str, Any]] = [{"image": j["image"], "mask": j["mask"]} for j in jobs]
        for i, photo in enumerate(photos):
            if isinstance(photo, str):
                rows[i] = {"image": jobs[i]["image"], "mask": "", "error": photo}
        settings: Settings = self.work["settings"]
        encodings = self.segmenter.encode_batch([photos[i] for i in good], settings) if good else []
        for i, encoding in zip(good, encodings, strict=True):
            result = self.segmenter.segment(encoding, settings)
            out = Path(self.work["out"])
            _write(out / jobs[i]["mask"], _mask_png(result.mask))
            if self.work["stages"]:
                result.save(out / "stages" / jobs[i]["mask"].removeprefix("masks/"), stages=True)
            rows[i]["result"] = json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False)
        return rows


def _read(image: str) -> Any:
    """The photo, uint8 RGB (H, W, 3), or the sentence that says why it cannot be had."""
    from zsas.datasets.folders import place
    from zsas.images import load_image

    try:
        return load_image(place(image))
    except ZsasError as error:
        return str(error)


def _run(
    ray: Any,
    jobs: list[dict[str, Any]],
    work: Mapping[str, Any],
    model: Mapping[str, Any] | None,
    make: Make | None,
    workers: int | None,
    gpus_per_worker: float | None,
    batch: int | None,
) -> Iterator[dict[str, Any]]:
    """Rows of all jobs. What is missing after the first round, because its worker died again and again, gets a
    second round image by image, where a death takes no other image along; what is still missing then is a row
    with an error."""
    resources = ray.cluster_resources()
    gpus = resources.get("GPU", 0)
    if gpus_per_worker is None:
        gpus_per_worker = 1.0 if gpus else 0.0
    if gpus_per_worker > gpus:
        raise ZsasError(
            f"Each worker is to have {gpus_per_worker:g} of a GPU, but the cluster has {gpus:g} GPUs: "
            "lower --gpus-per-worker, or add machines that have some."
        )
    if workers is None:
        workers = int(gpus / gpus_per_worker) if gpus_per_worker else int(resources.get("CPU", 1))
    batch = batch or (16 if gpus_per_worker else 1)
    if make is None:
        make = functools.partial(_from_preset, dict(model or {}))
    left = {job["id"]: job for job in jobs}
    for apart in (False, True):
        if left:
            actors = min(max(1, workers), len(left))
            size = 1 if apart else batch
            yield from _round(left, work, make, actors, gpus_per_worker, size, apart)
    for job in left.values():
        error = f"{job['id']} could not be processed: its worker died {RETRIES + 1} times."
        yield {"id": job["id"], "image": job.get("image", ""), "mask": "", "error": error}


def _round(
    left: dict[str, dict[str, Any]],
    work: Mapping[str, Any],
    make: Make,
    workers: int,
    gpus: float,
    batch: int,
    apart: bool,
) -> Iterator[dict[str, Any]]:
    import ray.data as ray_data

    context = ray_data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    # A block is what is lost and done again when a worker dies: small, but ten million are too many to list.
    batches = 1 if apart else max(1, min(64, len(left) // (32 * workers * batch)))
    blocks = math.ceil(len(left) / (batch * batches))
    packed = [{"job": pickle.dumps(job)} for job in left.values()]
    with warnings.catch_warnings():
        # How often a task is tried has no named parameter, and Ray warns of those without a name.
        warnings.simplefilter("ignore", DeprecationWarning)
        rows = ray_data.from_items(packed, override_num_blocks=blocks).map_batches(
            _Worker,
            batch_size=batch,
            batch_format="numpy",
            compute=ray_data.ActorPoolStrategy(
                size=workers, max_tasks_in_flight_per_actor=1 if apart else None
            ),
            num_cpus=1,
            num_gpus=gpus or None,
            fn_constructor_args=(make, dict(work), os.getcwd()),
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
    for item in rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        for one in item["row"]:
            row = pickle.loads(one)
            if "hindrance" in row:
                raise ZsasError(row["hindrance"])
            if left.pop(row["id"], None) is not None:
                yield row


def _from_preset(model: dict[str, Any]) -> Segmenter:
    from zsas.device import keep_freed_memory
    from zsas.pipeline import Segmenter

    keep_freed_memory()
    return Segmenter.from_preset(**model, cache_bytes=250_000_000)


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, joined or started; a cluster that was started here is stopped again."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise ZsasError(
            "The engine ray needs Ray, which is an extra: pip install '.[ray]'."
        ) from None
    import logging

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # every failure becomes a row here
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {}
    if address is None:
        options = {"include_dashboard": False}
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
    try:
        ray.init(
            address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **options
        )
    except Exception as error:  # Ray raises a dozen kinds, a plain Exception among them
        why = reason(error)
        raise ZsasError(
            f"The Ray cluster {address or 'on this machine'} cannot be used ({why})."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


class _Rows:
    """Parquet parts in `out/results`, each whole or not at all.

    Args:
        out: Folder of the run.
        identity: What defines the run; a folder of another one is refused.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        self.folder = out / "results"
        text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
        stamp = out / "run.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if stamp.is_file() and stamp.read_text() != text:
                raise ZsasError(
                    f"{out} holds a run of other settings or models (see run.json there); choose another --out."
                )
            _write(stamp, text.encode())
        except OSError as error:
            raise ZsasError(
                f"{out} cannot be written to ({error.strerror}); choose another --out."
            ) from None
        parts = sorted(self.folder.glob("part-*.parquet"))
        self.masks: dict[str, str] = {}
        """Image to mask of what is done; an image that failed is not: what was in its way may be gone."""
        for part in parts:
            table = pq.read_table(part)
            good = table.filter(pc.equal(table["error"], ""))
            if len(good) < len(table):
                buffer = io.BytesIO()
                pq.write_table(good, buffer)
                _write(part, buffer.getvalue())
            pairs = zip(good["image"].to_pylist(), good["mask"].to_pylist(), strict=True)
            self.masks.update(pairs)
        self._number = 1 + max((int(part.stem.removeprefix("part-")) for part in parts), default=-1)
        self._rows: list[dict[str, Any]] = []
        self._since = time.monotonic()

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def put(self, row: Mapping[str, Any]) -> None:
        """Keep a row; parts are written as rows and seconds come together."""
        result = json.loads(row["result"]) if row.get("result") else {}
        self._rows.append(
            {
                "image": row["image"],
                "mask": row["mask"],
                "error": row.get("error", ""),
                "anomalous": result.get("anomalous"),
                "image_score": result.get("image_score"),
                "width": result.get("width"),
                "height": result.get("height"),
                "result": row.get("result", ""),
            }
        )
        if len(self._rows) >= ROWS_A_PART or time.monotonic() - self._since > SECONDS_A_PART:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as the next part."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._since = time.monotonic()
        if not self._rows:
            return
        kinds = {
            "anomalous": pa.bool_(),
            "image_score": pa.float64(),
            "width": pa.int32(),
            "height": pa.int32(),
        }
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in self._rows[0]])
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(self._rows, schema=schema), buffer)
        _write(self.folder / f"part-{self._number:06d}.parquet", buffer.getvalue())
        self._number += 1
        self._rows = []


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the shell prints it: the entries of the result beside image and mask."""
    shown = {name: value for name, value in row.items() if name != "result"}
    return {**shown, **json.loads(row["result"])} if row.get("result") else shown


def _named(model: Mapping[str, Any] | None, make: Make | None) -> dict[str, Any]:
    """The model's arguments with the preset by name: a default chosen in each worker could differ."""
    from zsas.models import default_preset

    named = dict(model or {})
    if make is None and not named.get("preset"):
        named["preset"] = default_preset()
    return named


def _plain(model: Mapping[str, Any] | None) -> dict[str, Any]:
    """The model's arguments as JSON types; the device may change between runs."""
    return {
        name: str(value)
        for name, value in (model or {}).items()
        if name != "device" and value is not None
    }


def _mask_png(mask: Any) -> bytes:
    import cv2
    import numpy as np

    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also if two workers write the same at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, path)
