"""The reasoning scorer: prompts, rewards, GRPO and supervised training, and its rationales."""
