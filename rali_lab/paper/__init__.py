"""The paper's own line, for machines with GPUs: real data sets, Qwen2.5-VL-7B, CLIP ViT-L/14-336
(docs/PAPER_RUN.md).

The four steps of `python -m rali_lab.paper` call the code that the tiny profile runs:
`reasoner.grpo` for the teacher, `reasoner.rationales` for its rationales, transformers' `Trainer`
for the student, `rali.released` for the form in which RALI was released.
"""
