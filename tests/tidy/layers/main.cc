#include "high/high.h"

int main() {
  return layers::high() == 3 ? 0 : 1;
}
