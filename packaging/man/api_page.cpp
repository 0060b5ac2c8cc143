// Prints cmssh-api(7) in scdoc's format: what is not in the OpenRPC document from the file that is given, the methods,
// types and errors from the document. Run by the build.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "protocol/methods.hpp"

namespace cmssh {
namespace {

// What every call can meet is said once.
const std::set<std::string> kCommonErrors = {"invalid_params", "limit", "shutting_down", "internal"};

// scdoc takes these for formatting.
std::string plain(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        if (std::string_view("\\*_`#[]<>-|").find(c) != std::string_view::npos) {
            escaped += '\\';
        }
        escaped += c;
    }
    return escaped;
}

std::string bold(std::string_view text) {
    return "*" + plain(text) + "*";
}

std::string type_of(const Json& schema);

std::string joined(const Json& list, std::string_view between, std::string (*shown)(const Json&)) {
    std::string text;
    for (const Json& item : list) {
        text += (text.empty() ? "" : std::string(between)) + shown(item);
    }
    return text;
}

std::string named_type(const Json& schema) {
    if (schema.contains("items")) {
        return "\\[" + type_of(schema.at("items")) + ", …\\]";
    }
    if (schema.contains("additionalProperties") && schema.at("additionalProperties").is_object()) {
        return "{name: " + type_of(schema.at("additionalProperties")) + "}";
    }
    const Json type = schema.value("type", Json("any"));
    const auto text = [](const Json& one) { return plain(one.get<std::string>()); };
    return type.is_array() ? joined(type, " or ", text) : text(type);
}

std::string type_of(const Json& schema) {
    if (schema.contains("$ref")) {
        const std::string reference = schema.at("$ref");
        const std::string name = reference.substr(reference.rfind('/') + 1);
        // The meta-schema of rpc.discover is no type of ours.
        return reference.starts_with('#') ? bold(name) : "an OpenRPC document";
    }
    if (schema.contains("oneOf")) {
        return joined(schema.at("oneOf"), " or ", type_of);
    }
    if (schema.contains("enum")) {
        return joined(schema.at("enum"), "|", [](const Json& value) {
            return value.is_string() ? "_" + plain(value.get<std::string>()) + "_" : plain(dump_json(value));
        });
    }
    return named_type(schema);
}

void print_field(const std::string& name, bool optional, const Json& schema) {
    std::cout << bold(name) << (optional ? " (optional" : " (") << (optional ? ", " : "") << type_of(schema) << ")\n";
    std::string text = plain(schema.value("description", ""));
    // A default of {} or [] says no more than "optional".
    if (schema.contains("default") && !schema.at("default").is_structured()) {
        text += (text.empty() ? "" : "; ") + ("default " + plain(dump_json(schema.at("default"))));
    }
    if (!text.empty()) {
        std::cout << "\t" << text << "\n";
    }
    std::cout << "\n";
}

void print_method(const Json& method, std::map<int, std::string>& codes) {
    std::cout << "## " << plain(method.at("name").get<std::string>()) << "\n\n"
              << plain(method.at("summary").get<std::string>()) << ".\n\n";
    for (const Json& param : method.at("params")) {
        print_field(param.at("name"), !param.value("required", false), param.at("schema"));
    }
    std::cout << "Result: " << type_of(method.at("result").at("schema")) << "\n\n";
    std::string errors;
    for (const Json& error : method.at("errors")) {
        const std::string name = error.at("message");
        codes.emplace(error.at("code").get<int>(), name);
        if (!kCommonErrors.contains(name)) {
            errors += (errors.empty() ? "" : ", ") + plain(name);
        }
    }
    if (!errors.empty()) {
        std::cout << "Errors: " << errors << "\n\n";
    }
}

void print_types(const Json& schemas) {
    for (const auto& [name, schema] : schemas.items()) {
        const Json properties = schema.value("properties", Json::object());
        std::cout << "## " << plain(name) << "\n\n";
        if (properties.empty()) {
            std::cout << "No fields.\n\n";
        }
        // In the order of the struct, which `required` keeps.
        for (const Json& field : schema.value("required", Json::array())) {
            print_field(field, false, properties.at(field.get<std::string>()));
        }
        const Json required = schema.value("required", Json::array());
        for (const auto& [field, type] : properties.items()) {
            if (std::find(required.begin(), required.end(), Json(field)) == required.end()) {
                print_field(field, true, type);
            }
        }
    }
}

int print_page(const char* head, const char* tail) {
    const std::ifstream before(head);
    const std::ifstream after(tail);
    if (!before || !after) {
        std::cerr << "api_page: cannot read " << (before ? tail : head) << "\n";
        return EXIT_FAILURE;
    }
    const Json& document = api::openrpc_document(CMSSH_VERSION);
    std::map<int, std::string> codes;
    std::cout << before.rdbuf() << "\n# METHODS\n\n";
    for (const Json& method : document.at("methods")) {
        print_method(method, codes);
    }
    std::cout << "# TYPES\n\n";
    print_types(document.at("components").at("schemas"));
    std::cout << "# ERRORS\n\nBesides what a method lists, any call can fail with "
              << "invalid\\_params, limit, shutting\\_down and internal. What is no call of a method is answered with ";
    const Json& others = document.at("components").at("errors");
    std::size_t left = others.size();
    for (const auto& [name, error] : others.items()) {
        codes.emplace(error.at("code").get<int>(), name);
        --left;
        std::cout << plain(name) << (left > 1 ? ", " : left == 1 ? " or " : ".\n\n");
    }
    for (auto code = codes.rbegin(); code != codes.rend(); ++code) {
        std::cout << (code == codes.rbegin() ? "|[ " : "|  ") << "\\" << code->first
                  << "\n:" << (code == codes.rbegin() ? "< " : "  ") << plain(code->second) << "\n";
    }
    std::cout << "\n" << after.rdbuf();
    return std::cout.flush() ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace cmssh

int main(int argc, char** argv) {
    if (argc != 3) {
        std::cerr << "usage: api_page HEAD TAIL\n";
        return 2;
    }
    return cmssh::print_page(argv[1], argv[2]);
}
