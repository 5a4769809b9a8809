"""Vision-language models behind an OpenAI-compatible chat server as reviewers."""
