"""`python -m analog_lora_cli`, for accelerate and torchrun."""

from analog_lora_cli.cli import run

if __name__ == "__main__":
    run()
