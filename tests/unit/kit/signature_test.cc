#include "kit/signature.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "identity/identity.h"

namespace telemetryd::kit {
namespace {

constexpr SignedRequest kRequest{
    "1732003200", "550e8400-e29b-41d4-a716-446655440000", R"({"events":[]})"};

std::string signature(SignatureForm form, std::string_view key) {
  return to_hex(hmac_sha256(key, string_to_sign(form, kRequest)));
}

// The vectors of docs/formats/ingest.md.
TEST(KitSignature, MatchesTheVectorsOfBothForms) {
  EXPECT_EQ(signature(SignatureForm::kNonce, "test_secret_key"),
            "ce4b8e4802a7df7a0714bdc8281529c304a5f41e19b68399e41780d6418f9db9");
  EXPECT_EQ(signature(SignatureForm::kPlain, "test_secret_key"),
            "8b9d1db744e69335cfc1b6539d3a06ac98cc1734150f56fad6799de536c68996");
}

TEST(KitSignature, TheKeyIsTheSecretsTextEvenWhenItLooksLikeBase64) {
  EXPECT_EQ(signature(SignatureForm::kPlain, "kIRV9eC/2+Dvqc4E9ubP9Cjzd0LG2/Dg0OVEfknKBPQ="),
            "46b4ba3f28cc97d2688f0981eb4b12e4b10532f7945a9a3476352ed09d625619");
}

TEST(KitSignature, TheFormsDifferByTheNonceOnly) {
  EXPECT_EQ(string_to_sign(SignatureForm::kPlain, {"1", "n", "b"}), "1:b");
  EXPECT_EQ(string_to_sign(SignatureForm::kNonce, {"1", "n", "b"}), "1:n:b");
}

// What telemetry-kit's SDK makes of a machine and of a mail address.
TEST(KitIdentity, MatchesTheVectorsOfTheSdk) {
  EXPECT_EQ(
      identity::hash(identity::Scheme::kTelemetryKit, "tool", "0123456789abcdef0123456789abcdef"),
      "client_bc6187cce3a831fc6cc42895c9c746146d323d0a307d66fd664eeb542cf60c61");
  EXPECT_EQ("email_" + to_hex(sha256("user@example.com")).substr(0, 16), "email_b4c9a289323b21a0");
}

}  // namespace
}  // namespace telemetryd::kit
