// RUN: not xbarc opt %s --passes im2cool 2>&1 | filecheck %s --check-prefix NAME
// RUN: not xbarc opt %s --passes 'im2col{layers=res1.conv2}' 2>&1 | filecheck %s --check-prefix TEXT
// RUN: not xbarc opt %s --passes im2col,fold-batchnorm 2>&1 | filecheck %s --check-prefix ORDER

// NAME: unknown pass 'im2cool': did you mean 'im2col'?
// TEXT: --passes can't be read
// TEXT: im2col{layers=res1.conv2}
// TEXT: {{\^}}
// ORDER: graph pass 'fold-batchnorm' can't follow 'im2col'

builtin.module {}
