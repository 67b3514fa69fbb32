"""Where operations stand in the tree: `<subject>/Operations/<operation>/Dependencies/<dependency>`, and what stands beside these."""

from __future__ import annotations

from m2mapp.model.identifiers import Path

OPERATIONS = "Operations"
DEPENDENCIES = "Dependencies"
RESULT = "result"
EVALUATE = "evaluate"

OPERATION_TYPE = "operation"
DEPENDENCY_TYPE = "dependency"
RESULT_TYPE = "operation-result"


def subject_of(path: Path) -> Path | None:
    """The subject to whose operations a path leads: what stands before the first `Operations` in it. None: it leads to none."""
    try:
        return path[: path.index(OPERATIONS, 1)]
    except ValueError:
        return None
