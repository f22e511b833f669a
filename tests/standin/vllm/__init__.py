"""A stand-in for vLLM: its command line, its log lines, its processes, its answers. No model is read.

What the real one does only now and then, it does when told, by variables of the environment:
STANDIN_LOAD=S         takes S seconds to load (default 0.05)
STANDIN_LOADS=FILE     goes on to load until there is this file
STANDIN_IMPORT=S       takes S seconds before it says or hears anything
STANDIN_HANGS=TEXT     raises an exception while it loads, and lives on by a child
STANDIN_SAY=TEXT       prints TEXT while it loads
STANDIN_EXIT=N         ends with exit code N while it loads
STANDIN_DIES=FILE      loses its engine once there is this file, and ends with exit code 0 as the real one does
STANDIN_HEALTH=503     says that it is not well
STANDIN_DEAF=1         never listens
STANDIN_STUBBORN=1     ignores SIGTERM, as the real one does while it loads
STANDIN_GRANDCHILD=1   has its engine start a process of its own, which ignores SIGTERM
STANDIN_TASK=NAME      what it can be asked for (default generate)
STANDIN_SLOW=S         takes S seconds for an answer
STANDIN_HOLDS=FILE     keeps every answer back until there is this file
STANDIN_LATE=S         keeps every answer back until it is to end, and takes S seconds for it from then on
STANDIN_ANSWER=TEXT    answers with TEXT to every request with a body
STANDIN_RECORD=FILE    writes its command line, environment, folder and pids there
"""
