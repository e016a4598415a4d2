"""GGUF models on this machine, without another server (extra ``local``)."""
