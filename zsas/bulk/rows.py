"""The row of an image: its result or its error, as it is stored and printed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zsas.bulk.jobs import Job

if TYPE_CHECKING:
    from zsas.result import Result


@dataclass(frozen=True)
class Row:
    """The outcome of one image in JSON types, the same in every output format.

    Attributes:
        image, name, stamp: As in its `Job`.
        run: Digest of settings and models; see `Output`.
        mask: File of the mask, relative to the output folder; "" if none was written.
        error: Why the image could not be examined, in a sentence; "" if it was.
        anomalous, image_score, width, height: From the result; None if there is none.
        result: `Result.to_dict` as JSON; "" if there is none.
    """

    image: str
    name: str
    stamp: str = ""
    run: str = ""
    mask: str = ""
    error: str = ""
    anomalous: bool | None = None
    image_score: float | None = None
    width: int | None = None
    height: int | None = None
    result: str = ""

    @classmethod
    def failed(cls, job: Job, why: str) -> Row:
        """The row of an image that could not be examined."""
        return cls(job.image, job.name, job.stamp, error=why)

    @classmethod
    def of(cls, job: Job, result: Result, mask: str) -> Row:
        """The row of an examined image."""
        facts = result.to_dict()
        text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
        known = {name: facts[name] for name in ("anomalous", "image_score", "width", "height")}
        return cls(job.image, job.name, job.stamp, mask=mask, result=text, **known)

    def to_dict(self) -> dict[str, Any]:
        """The row as it is stored."""
        return asdict(self)

    @property
    def ok(self) -> bool:
        """Whether the part passes, for machines that know only pass and fail; True for an image that failed.

        Failed images are counted by their error instead.
        """
        return bool(self.error) or bool(json.loads(self.result).get("ok", not self.anomalous))

    @property
    def verdict(self) -> str:
        """normal, unsure or anomalous; "" for an image that failed."""
        return "" if self.error else str(json.loads(self.result)["verdict"])

    @property
    def sentence(self) -> str:
        """The verdict in a sentence, or the error."""
        return self.error or json.loads(self.result)["sentence"]

    def shown(self) -> dict[str, Any]:
        """The row as it is printed: image, name, mask, and the entries of the result or the error."""
        if self.error:
            return {"image": self.image, "name": self.name, "error": self.error}
        where = {"mask": self.mask} if self.mask else {}
        return {"image": self.image, "name": self.name, **where, **json.loads(self.result)}
