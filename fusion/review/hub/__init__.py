"""Pretrained vision-language models of the Hugging Face hub as reviewers."""
