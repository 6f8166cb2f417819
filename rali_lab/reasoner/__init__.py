"""The reasoning scorer: prompts, rewards, policy, GRPO training and the rationales it writes."""
