// The control of this file does not compile.
#error pipewright: broken on purpose
