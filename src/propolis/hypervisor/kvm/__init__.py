"""Linux KVM, as far as needed to find out whether it really runs guest code."""
