"""What the multimodal task needs: packages, shards, and what open_clip fetches for a model by name."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tasks.base import Requirement
from tasks.clip.model import geometry
from tasks.clip.tokens import MISSING
from tasks.embedders import image as image_embedders
from tasks.hugging_face import endpoint
from tasks.multimodal_settings import MultimodalConfig
from tasks.sources.emoji import PINS
from tasks.sources.webdataset import find_shards

_DEMO = 'pip install -e ".[demo]" in the checkout'
_NETWORK = "run once where there is a network"
_OWN_CACHE = "~/.cache/clip"  # where open_clip keeps what it gets from elsewhere than the hub
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def requirements(config: MultimodalConfig) -> list[Requirement]:
    """All of it for a config; asks no network."""
    found = [_package("open_clip_torch", MISSING)]
    if config.path:
        found.append(_shards(config.path))
    else:
        found += [_package(name, _DEMO) for name in PINS]
    if config.embedder == "image":
        found += [_package(name, _DEMO) for name in image_embedders.PACKAGES]
    if config.model and found[0].found:
        if ":" not in config.model:  # a hub's or a folder's own config is read when it is there
            geometry(config.model)
        found += _of_model(config.model, config.pretrained)
    return found


def _package(name: str, remedy: str) -> Requirement:
    try:
        return Requirement(what=name, found=version(name), remedy=remedy)
    except PackageNotFoundError:
        return Requirement(what=name, found="", remedy=remedy)


def _shards(path: str) -> Requirement:
    shards = find_shards(path)
    remedy = (
        f"put shards ({{00000..}}.tar with .jpg, .txt and .json) under {path}, or set path=FOLDER; "
        f"those of DataComp small: download_upstream.py --scale small --data_dir {path} "
        "of github.com/mlfoundations/datacomp"
    )
    return Requirement(
        what="WebDataset shards", found=f"{path} ({len(shards)} shards)" if shards else "", remedy=remedy
    )


def _of_model(model: str, pretrained: str) -> list[Requirement]:
    """What a model of open_clip needs beyond its code; nothing for an unknown name, which loading refuses."""
    import open_clip

    if model.startswith("hf-hub:"):
        name = model.removeprefix("hf-hub:")
        return [_hub(f"model {name}", name, ("open_clip_config.json",))]
    try:
        text = (open_clip.get_model_config(model) or {}).get("text_cfg", {})
    except OSError:  # a local-dir: that is not there
        text = {}
    found = [_checkpoint(model, pretrained)] if pretrained else []
    if text.get("hf_model_name"):
        name = text["hf_model_name"]
        found.append(_hub(f"text tower {name}", name, ("config.json",)))
    if text.get("hf_tokenizer_name"):
        name = text["hf_tokenizer_name"]
        found.append(_hub(f"tokenizer {name}", name, ("tokenizer.json", "tokenizer_config.json", "vocab.txt")))
    return found


def _checkpoint(model: str, pretrained: str) -> Requirement:
    """A file by its path, or a tag: open_clip gets it from the hub or from an address."""
    import open_clip

    what = f"weights {pretrained} of {model}"
    tag: dict[str, Any] = open_clip.get_pretrained_cfg(model, pretrained)
    if not tag:
        path = Path(pretrained).expanduser()
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        remedy = f"pretrained= the path of a checkpoint, or a tag of {model}: {tags}"
        return Requirement(what=what, found=str(path) if path.is_file() else "", remedy=remedy)
    repository, _, name = str(tag.get("hf_hub", "")).rpartition("/")
    if repository:
        return _hub(what, repository, (str(Path(name).with_suffix(".safetensors")), name) if name else _WEIGHTS)
    url = str(tag.get("url", ""))
    path = Path(_OWN_CACHE).expanduser() / Path(url).name
    return Requirement(what=what, found=str(path) if path.is_file() else "", remedy=_NETWORK, source=url or endpoint())


def _hub(what: str, repository: str, names: tuple[str, ...]) -> Requirement:
    """Whether one of these files of a repository lies in the local Hugging Face cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = [try_to_load_from_cache(repository, name) for name in names]
    except HFValidationError:
        cached = []
    found = next((str(Path(place).parent) for place in cached if isinstance(place, str)), "")
    remedy = f"hf download {repository} where there is a network"
    return Requirement(what=what, found=found, remedy=remedy, source=endpoint())
