"""Operations where the time goes, each with forms behind one name.

The reference is plain torch: autograd differentiates it and any device runs it. The fast form is written for the
processor, with its gradients by hand: in torch, and where most of the time goes in C too (`native`).
`hardgnn.ops.form` chooses; a test holds all equal.
"""
