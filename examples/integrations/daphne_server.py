"""daphne: its loop is made where `daphne.server` is imported, by the policy: python -m pyloop -m daphne.

python examples/integrations/daphne_server.py
"""

from asgi import answer_of

if __name__ == "__main__":
    answer = answer_of("-m", "pyloop", "-m", "daphne", "-u", "{socket}", "-v", "0", "asgi:app")
    assert answer == "pyloop._loop", answer
    # In a program of one's own: pyloop.install() before the first import of daphne.server.
    print("python -m pyloop -m daphne: on pyloop")
