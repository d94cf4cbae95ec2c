"""CPython's own asyncio tests with another event loop in the place of the stock one.

``python -m tests.conformance`` runs them; ``README.md`` says how to read what it prints. The parts:

==================  ====================================================================================
``__main__``        the command line
``plan``            which test modules and classes are run
``replace``         puts a loop in the place of the stock one, in the process of the tests
``worker``          runs one test class, in an interpreter of its own
``pool``            starts the workers, a few at a time, each with a time limit
``outcomes``        what a test, a class and a whole run came to
``baseline``        what stock asyncio does on this machine, kept in ``.cache``
``expectations``    the tests that pyloop is known not to pass, each with its reason
``report``          the table, the failures and the closing line
``ours``            CPython's mixins over the Task and Future classes of the loop that is tested
==================  ====================================================================================
"""
