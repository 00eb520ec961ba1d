"""Networks as machine code.

The operations that torch calls in a module are followed (`calls`) and written down (`tracing`).
They become a *graph* of what is done with the columns of a block of rows (`graph`): what only moves
numbers is nothing but another choice of columns, and the rest is put together of a few primitives
(`vocabulary`). A *plan* (`plan`) brings together what can be done in one pass, and gives each
column its place. The *emitter* (`emitter`, `functions`) writes LLVM's code for it, with vectors
over the rows, and the *machine* (`machine`) makes it a function and keeps it on disk. The *twin*
(`twin`) does the same slowly, in NumPy, for tests and hosts that LLVM does not know, and in JAX.
"""
