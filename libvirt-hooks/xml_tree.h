// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libxml2's trees, read within limits.
#pragma once

#include <libxml/tree.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/result.h"

namespace libvirt_hooks {

struct FreeDocument {
  void operator()(xmlDoc* document) const { xmlFreeDoc(document); }
};
using Document = std::unique_ptr<xmlDoc, FreeDocument>;

// Errors: invalid (not well-formed UTF-8, or with a document type), limit (more than a domain may have).
ckpt::Result<Document> read_document(std::string_view xml);
std::string document_text(xmlDoc* document);
std::string node_text(const xmlNode* node);
// The root. invalid: it is no domain's.
ckpt::Result<xmlNode*> domain_element(xmlDoc* document);
// Those directly below its <metadata> whose namespace begins so: each version of an element has its own.
std::vector<xmlNode*> metadata_elements(const xmlNode* domain, std::string_view namespace_prefix);

inline std::string_view view(const xmlChar* text) { return text ? reinterpret_cast<const char*>(text) : ""; }
inline const xmlChar* xml_string(const char* text) { return reinterpret_cast<const xmlChar*>(text); }
inline bool is_element(const xmlNode* node) { return node->type == XML_ELEMENT_NODE; }
std::string_view namespace_of(const xmlNode* node);            // empty: none, as libvirt's own elements
xmlNode* child(const xmlNode* parent, std::string_view name);  // the first of libvirt's own; null: none, or no parent
std::string text_of(const xmlNode* node);                      // empty for null
std::string attribute(const xmlNode* node, const char* name);
// All of this name and namespace, empty for libvirt's own; none: no parent.
std::vector<xmlNode*> children(const xmlNode* parent, std::string_view name, std::string_view uri = "");

void set(xmlNode* node, const char* name, std::string_view value);
void set_text(xmlNode* node, std::string_view text);  // instead of all content
xmlNode* add(xmlNode* parent, const char* name);
void drop(xmlNode* node);

}  // namespace libvirt_hooks
