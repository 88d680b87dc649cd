import subprocess
import sys

import pytest

import infra.errors


@pytest.fixture
def isolated_modules():
    def names(module: str) -> set[str]:
        code = f"import sys, {module}; print(*sys.modules)"
        root = infra.errors.__file__.removesuffix("/infra/errors.py")
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": root},
            check=True,
            capture_output=True,
            text=True,
        )
        return set(ended.stdout.split())

    return names
