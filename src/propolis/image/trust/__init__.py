"""Which images may be used: a policy in the manner of containers-policy.json(5), and signatures as cosign makes them.

Only imported where there is a policy.
"""
