"""A lane a reviewer: who waits (`batcher`), who reviews (`crew`), how a batch is run (`reviewer`), and what is learnt.

`lane` puts them together; `batcher`, `cost`, `lost` and `scaling` are pure decision objects. What a reviewer says about
its answers is written by the `explainer`, when no batch is due.
"""
