"""Operations in C for the processor, built by the machine's own compiler when first used, and kept.

Fused, they leave the caches seldom, which is where the time of the torch forms goes. Without a compiler those serve.
"""
