// A module that its verifier refuses: one line, the file and the operation, nothing on stdout.
// RUN: not xbarc opt %s 2>&1 | filecheck %s
// RUN: not xbarc opt %s -o %t.out.mlir 2> %t.err
// RUN: test ! -e %t.out.mlir
// RUN: not xbarc opt %s.absent 2>&1 | filecheck %s --check-prefix ABSENT
// RUN: not xbarc opt %S/lit.cfg 2>&1 | filecheck %s --check-prefix PLACE

// CHECK: xbarc: {{.*}}refused.mlir: operation 4, xbar.mvm: tile [0, 9, 0, 17] takes 9 rows and 136 columns (17 weights of 8 cells) of a 128 x 128 crossbar
// ABSENT: xbarc: {{.*}}refused.mlir.absent: No such file or directory
// PLACE: xbarc: {{.*}}lit.cfg:1:1:

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @w : 9x32xi8
  func.func @main(%0: tensor<?x9xui8>) {
    %1 = xbar.gather %0 axis 1 : tensor<?x9xui8> -> !xbar.stream<1 x 9 x ui8>
    %2 = xbar.mvm %1, @w by "mine" grid [128, 17] : !xbar.stream<1 x 9 x ui8> -> !xbar.stream<1 x 32 x si32>
    func.return
  }
}
