"""AHWA-LoRA: transformers on analog in-memory hardware, adapted with digital LoRA adapters."""

__version__ = "0.1.0"
