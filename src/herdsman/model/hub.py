"""Models from the Hugging Face Hub, through its own client: its cache, login, mirrors (`HF_ENDPOINT`) and proxies."""

from __future__ import annotations

from pathlib import Path

from herdsman.errors import InputError, NetworkError

# What an import reads. Folders are left out: there some models keep the same weights in other forms.
WANTED = ("*.json", "*.safetensors", "*.jinja", "README.md")


def fetch_from_hub(model_id: str) -> Path:
    """Folder of the client's cache with the model's files, fetched where they are missing.

    Raises:
        InputError: the Hub has no such model, or does not show it to this user.
        NetworkError: the Hub cannot be reached, or a file does not come.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(model_id, allow_patterns=list(WANTED), ignore_patterns=["*/*"]))
    except GatedRepoError as error:
        raise InputError(
            "this model is shown only to those who accepted its terms",
            where=model_id,
            do="accept them on the model's page, then log in: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            "there is no such folder here and no such model on the Hub, or it is private",
            where=model_id,
            do="check the name, or log in: hf auth login",
        ) from error
    except Exception as error:  # The client lets errors of its HTTP library through, and which that is changes.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NetworkError(
            f"there is no such folder here, and the Hub does not give such a model ({reason})",
            where=model_id,
            do="check the network and HF_ENDPOINT, or point to a folder on this machine",
        ) from error
