// SPDX-License-Identifier: LGPL-2.1-or-later
#include "xml_tree.h"

#include <libxml/parser.h>

#include "common/libvirt_domain.h"

namespace libvirt_hooks {

using ckpt::Code;
using ckpt::make_error;

namespace {

struct FreeParser {
  void operator()(xmlParserCtxt* parser) const { xmlFreeParserCtxt(parser); }
};

std::string owned(xmlChar* text) {
  std::string copy(view(text));
  xmlFree(text);
  return copy;
}

}  // namespace

ckpt::Result<Document> read_document(std::string_view xml) {
  if (xml.size() > ckptd::domain_xml_limit_bytes) return make_error(Code::limit, "domain XML of more than 256 KiB");
  std::unique_ptr<xmlParserCtxt, FreeParser> parser(xmlNewParserCtxt());
  if (!parser) return make_error(Code::limit, "no memory for the XML parser");
  // Neither network nor other files; entities stay what they are called, and depth is bounded, as no option allows
  // more.
  Document document(xmlCtxtReadMemory(parser.get(), xml.data(), static_cast<int>(xml.size()), "domain.xml", "UTF-8",
                                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING));
  if (!document) {
    const auto* error = xmlCtxtGetLastError(parser.get());
    std::string why = error && error->message ? error->message : "not well-formed";
    return make_error(Code::invalid, "XML: " + why.substr(0, why.find('\n')));
  }
  if (document->intSubset || document->extSubset)
    return make_error(Code::invalid, "XML with a document type: libvirt writes none");
  return document;
}

std::string document_text(xmlDoc* document) {
  xmlChar* text = nullptr;
  int size = 0;
  xmlDocDumpMemory(document, &text, &size);
  return owned(text);
}

std::string node_text(const xmlNode* node) {
  Document alone(xmlNewDoc(nullptr));
  xmlNode* copy = alone ? xmlDocCopyNode(const_cast<xmlNode*>(node), alone.get(), 1) : nullptr;
  if (copy) xmlDocSetRootElement(alone.get(), copy);
  return alone ? document_text(alone.get()) : "";
}

ckpt::Result<xmlNode*> domain_element(xmlDoc* document) {
  xmlNode* root = xmlDocGetRootElement(document);
  if (!root || root->ns || view(root->name) != "domain") return make_error(Code::invalid, "XML, but not of a domain");
  return root;
}

std::vector<xmlNode*> metadata_elements(const xmlNode* domain, std::string_view namespace_prefix) {
  std::vector<xmlNode*> found;
  const xmlNode* metadata = child(domain, "metadata");
  for (xmlNode* node = metadata ? metadata->children : nullptr; node; node = node->next)
    if (is_element(node) && namespace_of(node).starts_with(namespace_prefix)) found.push_back(node);
  return found;
}

std::string_view namespace_of(const xmlNode* node) { return node->ns ? view(node->ns->href) : ""; }

xmlNode* child(const xmlNode* parent, std::string_view name) {
  for (xmlNode* node = parent ? parent->children : nullptr; node; node = node->next)
    if (is_element(node) && !node->ns && view(node->name) == name) return node;
  return nullptr;
}

std::string text_of(const xmlNode* node) { return node ? owned(xmlNodeGetContent(node)) : ""; }

std::string attribute(const xmlNode* node, const char* name) { return owned(xmlGetNoNsProp(node, xml_string(name))); }

std::vector<xmlNode*> children(const xmlNode* parent, std::string_view name, std::string_view uri) {
  std::vector<xmlNode*> found;
  for (xmlNode* node = parent ? parent->children : nullptr; node; node = node->next)
    if (is_element(node) && view(node->name) == name && namespace_of(node) == uri) found.push_back(node);
  return found;
}

void set(xmlNode* node, const char* name, std::string_view value) {
  xmlSetProp(node, xml_string(name), xml_string(std::string(value).c_str()));
}

// As text: it may have an '&'.
void set_text(xmlNode* node, std::string_view text) {
  xmlNodeSetContent(node, nullptr);
  xmlAddChild(node, xmlNewText(xml_string(std::string(text).c_str())));
}

xmlNode* add(xmlNode* parent, const char* name) { return xmlNewChild(parent, nullptr, xml_string(name), nullptr); }

void drop(xmlNode* node) {
  xmlUnlinkNode(node);
  xmlFreeNode(node);
}

}  // namespace libvirt_hooks
