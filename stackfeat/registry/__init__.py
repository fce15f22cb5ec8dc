"""Names to objects: what a config may name, what that needs of trust, and the source behind it.

Here belong the tables of nets and estimators, the allow-list of classes and of kinds of their
parameters, user code and its hashes, and templates of file names. What is done with an object once it
is found does not.
"""
