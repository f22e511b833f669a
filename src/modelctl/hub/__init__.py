"""The remote side: a Hugging Face Hub."""
