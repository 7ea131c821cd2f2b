"""PPO for language models: losses, rollouts, the loop, its state; one file each."""
