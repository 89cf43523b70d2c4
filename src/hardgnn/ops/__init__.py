"""Operations where the time goes, each with two forms behind one name.

The reference is plain torch: autograd differentiates it and any device runs it. The fast form is written for the
processor, with its gradients by hand. `hardgnn.ops.form` chooses; a test holds both equal.
"""
