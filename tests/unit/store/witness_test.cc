#include "store/witness.h"

#include <gtest/gtest.h>

namespace telemetryd::store {
namespace {

TEST(WitnessCompare, AnotherDatabaseIsALossOnceSomethingHadBeenAccepted) {
  Witness witness;
  witness.store_uuid[0] = 1;
  witness.accepted_total = 1;
  EXPECT_TRUE(compare(witness, Remembered{}));
}

TEST(WitnessCompare, APowerCutWhileTheStoreWasMadeIsNoLoss) {
  Witness witness;
  witness.store_uuid[0] = 1;
  EXPECT_FALSE(compare(witness, Remembered{}));
}

}  // namespace
}  // namespace telemetryd::store
