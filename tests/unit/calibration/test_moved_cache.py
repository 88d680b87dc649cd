import shutil
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from calibration.runtime import configure
configure(cache_dir=sys.argv[1], host_devices=1)
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
jax.jit(lambda x: jax.numpy.sort(x @ x))(jax.numpy.ones((8, 8))).block_until_ready()
print(hits.count("/jax/compilation_cache/cache_hits"))
"""


def hits(cache: Path) -> int:
    command = [sys.executable, "-c", PROGRAM, str(cache)]
    root = Path(__file__).parents[3]
    return int(subprocess.run(command, check=True, capture_output=True, cwd=root).stdout)


def test_compiled_programs_are_found_again_where_the_cache_was_moved(tmp_path: Path) -> None:
    assert hits(tmp_path / "here") == 0
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert hits(tmp_path / "there") > 0
