"""What a person types and sees."""

import gc

# A command makes few cycles and ends soon: by default the collector would look through all modules again and again
# while they load, which takes 4 ms of every start. It still comes to what a long pull or a server leaves.
gc.set_threshold(100_000, 50, 50)
