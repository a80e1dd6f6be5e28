// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a domain's XML says of its protection: what is understood, what is refused and in which words, that the
// published schema agrees, and that what the hook writes is read again.
#include <gtest/gtest.h>
#include <libxml/parser.h>
#include <libxml/relaxng.h>

#include <memory>

#include "domain_xml.h"
#include "edit_xml.h"
#include "golden.h"

namespace libvirt_hooks {
namespace {

using ckpt::Code;
using ckptd::Json;

constexpr const char* uuid = "6b0a2f4c-3c0e-4d9e-9a43-0d6f6a6a1c11";
constexpr const char* launcher = "/opt/ckpt/bin/ckpt-qemu-system-x86_64";

std::string golden(const std::string& name) {
  auto bytes = ckpt::read_golden("libvirt/" + name);
  return {bytes.begin(), bytes.end()};
}

std::string domain(const std::string& metadata, const std::string& emulator = launcher,
                   const std::string& name = "web1") {
  return "<domain type='qemu'><name>" + name + "</name><uuid>" + uuid + "</uuid><metadata>" + metadata +
         "</metadata><devices><emulator>" + emulator + "</emulator></devices></domain>";
}

std::string element(const std::string& attributes, const std::string& content = "") {
  return "<c:protection xmlns:c='urn:x-ckpt:domain:1' " + attributes + ">" + content + "</c:protection>";
}

// As an admin would check it before `virsh metadata`.
bool schema_allows(const std::string& text) {
  std::string path = std::string(CKPT_SOURCE_ROOT) + "/libvirt-hooks/ckpt-domain.rng";
  auto* source = xmlRelaxNGNewParserCtxt(path.c_str());
  auto* schema = xmlRelaxNGParse(source);
  EXPECT_TRUE(schema) << path;
  auto* document = xmlReadMemory(text.data(), static_cast<int>(text.size()), "x", nullptr, XML_PARSE_NOERROR);
  auto* valid = xmlRelaxNGNewValidCtxt(schema);
  xmlRelaxNGSetValidErrors(valid, nullptr, nullptr, nullptr);
  bool allowed = document && xmlRelaxNGValidateDoc(valid, document) == 0;
  xmlRelaxNGFreeValidCtxt(valid);
  xmlFreeDoc(document);
  xmlRelaxNGFree(schema);
  xmlRelaxNGFreeParserCtxt(source);
  return allowed;
}

ckptd::LibvirtDomain protection_of(const std::string& xml) {
  auto parsed = parse_domain_xml(xml);
  EXPECT_TRUE(parsed.ok()) << parsed.error().message();
  EXPECT_TRUE(parsed.ok() && parsed->protection);
  return parsed.ok() && parsed->protection ? *parsed->protection : ckptd::LibvirtDomain();
}

TEST(LibvirtDomain, IsReadAsLibvirtWritesIt) {
  std::string xml = golden("web1.xml");
  auto parsed = parse_domain_xml(xml);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message();
  EXPECT_EQ(parsed->name, "web1");
  EXPECT_EQ(parsed->uuid, uuid);
  EXPECT_EQ(parsed->user, "+64055:+993");
  ASSERT_TRUE(parsed->protection);
  const auto& protection = *parsed->protection;
  EXPECT_EQ(protection.error, "");
  EXPECT_EQ(protection.machine, "shop-web1");
  EXPECT_TRUE(protection.required);
  EXPECT_EQ(protection.policy["interval_ms"], 500);
  EXPECT_EQ(protection.policy["retention"][1], (Json{{"every_s", 10}, {"for_s", 600}}));
  EXPECT_EQ(protection.xml, xml);
}

TEST(LibvirtDomain, WithoutAnElementIsNotProtected) {
  auto parsed = parse_domain_xml(domain("<other xmlns='urn:x-other'/>"));
  ASSERT_TRUE(parsed.ok());
  EXPECT_FALSE(parsed->protection);
}

TEST(LibvirtDomain, WithAnEmptyElementTakesTheDaemonsPolicy) {
  auto protection = protection_of(domain(element("")));
  EXPECT_EQ(protection.error, "");
  EXPECT_EQ(protection.policy, Json::object());
  EXPECT_EQ(protection.machine, "web1");
  EXPECT_FALSE(protection.required);
}

TEST(LibvirtDomain, WhatTheSchemaAllowsIsUnderstood) {
  for (const char* attributes :
       {"", "interval='1s'", "interval='50ms' required='no'", "interval='2.5s'", "retention='all'",
        "retention='all:60s,10s:10m,1m:1d'", "consistent='10m'", "consistent='none'", "machine='a.b_c-d'",
        "required='yes' interval='1h' retention='1d:90d'"}) {
    EXPECT_TRUE(schema_allows(element(attributes))) << attributes;
    EXPECT_EQ(protection_of(domain(element(attributes))).error, "") << attributes;
  }
}

struct Refusal {
  std::string metadata;
  const char* words;
  bool schema_knows = true;
};

TEST(LibvirtDomain, WhatIsRefusedSaysWhatIsWrong) {
  const Refusal refusals[] = {
      {element("interval='soon'"), "not a duration"},
      {element("interval=''"), "empty attribute 'interval'"},
      {element("interval='1ms'"), "choose 50 ms to 1 h", false},
      {element("retention='60s'"), "EVERY:FOR"},
      {element("consistent='soon'"), "not a duration"},
      {element("consistent='1s'"), "choose 10 s to 7 d", false},
      {element("retention='all:60s,10s:5s'"), "further back", false},
      {element("interwal='1s'"), "unknown attribute 'interwal'"},
      {element("c:interval='1s'"), "unknown attribute 'interval'"},
      {element("required='true'"), "write yes or no"},
      {element("machine='../ckptd'"), "machine name"},
      {element("machine='ckptd'"), "cannot name a machine", false},
      {element("", "<c:store/>"), "unknown element 'store'"},
      {element("", "every second"), "attributes"},
      {"<c:guard xmlns:c='urn:x-ckpt:domain:1'/>", "unknown element 'guard'"},
      {"<c:protection xmlns:c='urn:x-ckpt:domain:2'/>", "install a newer one"},
      {element("") + element("interval='1s'"), "several"},
  };
  for (const auto& refusal : refusals) {
    auto protection = protection_of(domain(refusal.metadata));
    EXPECT_NE(protection.error.find(refusal.words), std::string::npos) << protection.error;
    EXPECT_EQ(schema_allows(refusal.metadata), !refusal.schema_knows) << refusal.metadata;
  }
}

TEST(LibvirtDomain, ANameThatCannotBeAMachinesCanBeReplaced) {
  auto refused = protection_of(domain(element(""), launcher, "my web server"));
  EXPECT_NE(refused.error.find("machine='NAME'"), std::string::npos) << refused.error;
  EXPECT_EQ(protection_of(domain(element("machine='web'"), launcher, "my web server")).error, "");
}

TEST(LibvirtDomain, AnotherEmulatorIsAContradiction) {
  for (const char* emulator : {"/usr/bin/qemu-system-x86_64", "", "/ckpt-qemu-system-x86_64/sh"})
    EXPECT_NE(protection_of(domain(element(""), emulator)).error.find("<emulator>"), std::string::npos) << emulator;
}

// Whoever asked for it in another version, or in an element that is wrong otherwise, meant it.
TEST(LibvirtDomain, RequiredCountsInEveryVersionAndBesideErrors) {
  auto future = protection_of(golden("future.xml"));
  EXPECT_TRUE(future.required);
  EXPECT_NE(future.error.find("urn:x-ckpt:domain:2"), std::string::npos);
  EXPECT_TRUE(protection_of(domain(element("required='yes' interval='soon'"))).required);
  EXPECT_FALSE(protection_of(domain(element("interval='soon'"))).required);
}

TEST(LibvirtDomain, WhatIsNoDomainIsRefusedWhole) {
  const std::string good = domain(element(""));
  std::string deep;
  for (int i = 0; i < 10'000; ++i) deep += "<a>";
  const std::pair<std::string, Code> cases[] = {
      {"", Code::invalid},
      {"<domain", Code::invalid},
      {"<network/>", Code::invalid},
      {"<domain><name>x</name></domain>", Code::invalid},
      {"<domain><name/><uuid>" + std::string(uuid) + "</uuid></domain>", Code::invalid},
      {domain(deep), Code::invalid},
      {"<!DOCTYPE d [<!ENTITY a 'b'>]>" + good, Code::invalid},
      {"<!DOCTYPE d SYSTEM 'file:///etc/passwd'>" + good, Code::invalid},
      {good + std::string(ckptd::domain_xml_limit_bytes, ' '), Code::limit},
  };
  for (const auto& [xml, code] : cases) {
    auto parsed = parse_domain_xml(xml);
    ASSERT_FALSE(parsed.ok()) << xml.substr(0, 80);
    EXPECT_EQ(parsed.error().code, code) << parsed.error().message();
  }
}

TEST(LibvirtDomain, ItsFileIsReadAsItIsWritten) {
  auto domain = protection_of(golden("web1.xml"));
  domain.user = os::User{64055, 993};
  std::string text = ckptd::dump_pretty(to_json(domain)) + "\n";
  ckpt::expect_golden("libvirt/web1.json", {text.begin(), text.end()});
  auto again = ckptd::libvirt_domain_from_json(*ckptd::parse_object(golden("web1.json")));
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(*again, domain);
}

TEST(LibvirtDomain, AFileThatLiesIsRefused) {
  const Json good = *ckptd::parse_object(golden("web1.json"));
  for (const Json& change :
       {Json{{"version", 2}}, Json{{"version", "1"}}, Json{{"uuid", "../../etc/passwd"}}, Json{{"uuid", nullptr}},
        Json{{"name", 5}}, Json{{"machine", "a/b"}}, Json{{"machine", ""}}, Json{{"error", 5}},
        Json{{"policy", {{"interval_ms", 1}}}}, Json{{"user", {{"uid", 4294967295u}, {"gid", 0}}}},
        Json{{"user", {{"uid", 1}}}}, Json{{"xml", std::string(300'000, 'x')}}}) {
    Json bad = good;
    bad.update(change);
    EXPECT_FALSE(ckptd::libvirt_domain_from_json(bad).ok()) << change.dump().substr(0, 80);
  }
}

TEST(LibvirtDomain, ItsEditsLeaveAllElse) {
  auto merged = with_attributes("<protection interval='1s' machine='m'/>", {{"interval", "2s"}, {"retention", ""}});
  ASSERT_TRUE(merged.ok());
  EXPECT_EQ(*attribute_of(*merged, "interval"), "2s");
  EXPECT_EQ(*attribute_of(*merged, "machine"), "m");
  EXPECT_EQ(*attribute_of(*merged, "retention"), "");
  EXPECT_EQ(*attribute_of(*with_attributes("", {{"interval", "2s"}}), "interval"), "2s");
  EXPECT_EQ(*attribute_of("", "interval"), "");

  const std::string path = "/a&b/<c>/ckpt-qemu-system-x86_64";
  for (const std::string& before : {domain(element(""), "/usr/bin/kvm"), domain(element(""), "")}) {
    auto edited = with_emulator(before, path);
    ASSERT_TRUE(edited.ok()) << edited.error().message();
    EXPECT_EQ(protection_of(*edited).error, "") << *edited;
    EXPECT_NE(edited->find("/a&amp;b/&lt;c&gt;/ckpt-qemu-system-x86_64</emulator>"), std::string::npos) << *edited;
    EXPECT_EQ(*with_emulator(*edited, "/other"), "") << "it has a launcher already";
  }
  EXPECT_NE(with_emulator("<domain><devices/></domain>", path)->find("<emulator>"), std::string::npos);
  EXPECT_FALSE(with_emulator("<domain/>", path).ok());
  EXPECT_FALSE(with_attributes("<protection", {}).ok());
}

}  // namespace
}  // namespace libvirt_hooks
