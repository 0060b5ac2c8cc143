#include "client/syntax.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

namespace cmssh::client {
namespace {

OptionSyntax syntax_of(const CLI::Option& option) {
    OptionSyntax syntax;
    syntax.text = option.get_description();
    if (option.get_items_expected_max() > 0) {
        syntax.type = option.get_type_name();
    }
    if (option.get_positional()) {
        syntax.names.push_back(option.get_single_name());
        syntax.many = option.get_expected_max() > 1;
        return syntax;
    }
    for (const std::string& name : option.get_snames()) {
        syntax.names.push_back('-' + name);
    }
    for (const std::string& name : option.get_lnames()) {
        syntax.names.push_back("--" + name);
    }
    return syntax;
}

}  // namespace

const OptionSyntax* VerbSyntax::find_option(std::string_view option) const {
    const auto found = std::find_if(options.begin(), options.end(), [option](const OptionSyntax& it) {
        return std::find(it.names.begin(), it.names.end(), option) != it.names.end();
    });
    return found == options.end() ? nullptr : &*found;
}

VerbSyntax syntax_of(const CLI::App& app) {
    VerbSyntax syntax;
    syntax.name = app.get_name();
    syntax.text = app.get_description();
    for (const CLI::Option* option : app.get_options()) {
        (option->get_positional() ? syntax.operands : syntax.options).push_back(syntax_of(*option));
    }
    return syntax;
}

}  // namespace cmssh::client
