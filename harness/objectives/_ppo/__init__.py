"""PPO for language models: losses, rollouts, training loop, saved state; one file each."""
