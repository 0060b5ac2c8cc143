// One list of fields per struct (Fields<T>, in methods.cpp), and what comes from it: strict reading, writing and JSON
// Schema. Field types: bool, integers, double, std::string, enums (Values<E> and to_string), Json, structs with Fields,
// and std::optional, std::vector and std::map<std::string, T> of these. Pure; included by methods.cpp and openrpc.cpp
// only.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "protocol/jsonrpc.hpp"
#include "protocol/result.hpp"

namespace cmssh::api {

// Which way a struct travels. Params are closed (the schema allows no other field) and their strings hold no NUL byte,
// which would cut short an argument or a path; every field of a result is always there, and a reader passes over those
// that a newer daemon adds.
enum class Use { Params, Result };

// What a field's value must be, beyond its type. For a container it holds for what is in it too.
struct Limits {
    std::optional<std::int64_t> min = {};
    std::optional<std::int64_t> max = {};
    std::size_t min_items = 0;
    bool no_nul = false;
};

template <typename Struct, typename T>
struct Field {
    std::string_view name;
    T Struct::*member;
    std::string_view doc;
    Limits limits = {};
    bool has_default = false;
    bool is_omitted = false;

    [[nodiscard]] constexpr Field at_least(std::int64_t min) const {
        Field field = *this;
        field.limits.min = min;
        return field;
    }
    [[nodiscard]] constexpr Field range(std::int64_t min, std::int64_t max) const {
        Field field = at_least(min);
        field.limits.max = max;
        return field;
    }
    [[nodiscard]] constexpr Field not_empty() const {
        Field field = *this;
        field.limits.min_items = 1;
        return field;
    }
    // May be absent: the member keeps the value that the struct gives it.
    [[nodiscard]] constexpr Field defaulted() const {
        Field field = *this;
        field.has_default = true;
        return field;
    }
    // Of a result: not written where it is unset, in place of null.
    [[nodiscard]] constexpr Field omitted() const {
        Field field = *this;
        field.is_omitted = true;
        return field;
    }
};

template <typename Struct, typename T>
constexpr Field<Struct, T> field(std::string_view name, T Struct::*member, std::string_view doc) {
    return {name, member, doc};
}

// Specialised for every struct: `name`, `use` and `list`, a tuple of Field.
template <typename T>
struct Fields;

// Specialised for every enum: `list`, an array of its enumerators.
template <typename T>
struct Values;

// OpenRPC's `params` of a method: an entry for each field, those that are required first as OpenRPC asks. Schemas of
// structs go into components. Defined in methods.cpp, and instantiated there for params.
template <typename T>
[[nodiscard]] Json param_list(Json& components);
// OpenRPC's `result` of a method. Defined in methods.cpp, and instantiated there for results.
template <typename T>
[[nodiscard]] Json result_entry(Json& components);

namespace detail {

template <typename T>
inline constexpr bool kIsOptional = false;
template <typename T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <typename T>
inline constexpr bool kIsVector = false;
template <typename T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <typename T>
inline constexpr bool kIsMap = false;
template <typename T>
inline constexpr bool kIsMap<std::map<std::string, T>> = true;

inline constexpr std::size_t kMaxShown = 40;

// A place in a message. Nodes lie on the stack of the readers and become text only for an error.
struct Path {
    const Path* parent = nullptr;
    std::string_view name;
    std::optional<std::size_t> index = {};

    [[nodiscard]] std::string text() const {
        if (index) {
            return parent->text() + "[" + std::to_string(*index) + "]";
        }
        const std::string last(name.substr(0, kMaxShown));
        return parent == nullptr ? last : parent->text() + "." + last;
    }
};

inline Error invalid(const Path& path, const std::string& message) {
    return Error{.kind = ErrorKind::InvalidParams, .message = path.text() + ": " + message};
}

inline std::string shown(const Json& json) {
    if (json.is_structured()) {
        return (json.empty() ? std::string("an empty ") : std::string("an ")) + json.type_name();
    }
    std::string text = dump_json(json);
    if (text.size() > kMaxShown) {
        text.resize(kMaxShown);
        text += "…";
    }
    return text;
}

inline Error mismatch(const Path& path, const std::string& expected, const Json& json) {
    return invalid(path, "expected " + expected + ", got " + shown(json));
}

inline Result<void> check_nul(const std::string& text, const Path& path, const Limits& limits) {
    if (limits.no_nul && text.find('\0') != std::string::npos) {
        return invalid(path, "must not hold a NUL byte");
    }
    return {};
}

template <typename T>
constexpr T lowest(const Limits& limits) {
    return limits.min && std::in_range<T>(*limits.min) ? static_cast<T>(*limits.min) : std::numeric_limits<T>::min();
}

template <typename T>
constexpr T highest(const Limits& limits) {
    return limits.max && std::in_range<T>(*limits.max) ? static_cast<T>(*limits.max) : std::numeric_limits<T>::max();
}

template <typename T>
Result<void> read_integer(const Json& json, const Path& path, const Limits& limits, T& out) {
    const auto within = [&limits, &out](auto number) {
        if (std::cmp_less(number, lowest<T>(limits)) || std::cmp_greater(number, highest<T>(limits))) {
            return false;
        }
        out = static_cast<T>(number);
        return true;
    };
    if (json.is_number_integer() &&
        (json.is_number_unsigned() ? within(json.get<std::uint64_t>()) : within(json.get<std::int64_t>()))) {
        return {};
    }
    return mismatch(
        path, "an integer from " + std::to_string(lowest<T>(limits)) + " to " + std::to_string(highest<T>(limits)),
        json);
}

template <typename T>
Result<void> read_enum(const Json& json, const Path& path, T& out) {
    std::string names;
    for (const T value : Values<T>::list) {
        if (json == to_string(value)) {
            out = value;
            return {};
        }
        names += (names.empty() ? "" : ", ") + std::string(to_string(value));
    }
    return mismatch(path, "one of " + names, json);
}

template <typename T>
Result<void> read_struct(const Json& json, const Path& path, T& out);

template <typename T>
Result<void> read_value(const Json& json, const Path& path, const Limits& limits, T& out) {
    if constexpr (kIsOptional<T>) {
        if (json.is_null()) {
            out.reset();
            return {};
        }
        return read_value(json, path, limits, out.emplace());
    } else if constexpr (std::is_same_v<T, Json>) {
        out = json;
        return {};
    } else if constexpr (std::is_same_v<T, bool>) {
        if (!json.is_boolean()) {
            return mismatch(path, "true or false", json);
        }
        out = json.get<bool>();
        return {};
    } else if constexpr (std::is_integral_v<T>) {
        return read_integer(json, path, limits, out);
    } else if constexpr (std::is_floating_point_v<T>) {
        if (!json.is_number()) {
            return mismatch(path, "a number", json);
        }
        out = json.get<T>();
        return {};
    } else if constexpr (std::is_same_v<T, std::string>) {
        if (!json.is_string()) {
            return mismatch(path, "a string", json);
        }
        out = json.get_ref<const std::string&>();
        return check_nul(out, path, limits);
    } else if constexpr (std::is_enum_v<T>) {
        return read_enum(json, path, out);
    } else if constexpr (kIsVector<T>) {
        if (!json.is_array() || json.size() < limits.min_items) {
            return mismatch(path, limits.min_items == 0 ? "an array" : "an array with at least one item", json);
        }
        out.clear();
        for (const Json& item : json) {
            const Path place{.parent = &path, .name = {}, .index = out.size()};
            if (Result<void> read = read_value(item, place, limits, out.emplace_back()); !read) {
                return read;
            }
        }
        return {};
    } else if constexpr (kIsMap<T>) {
        if (!json.is_object()) {
            return mismatch(path, "an object", json);
        }
        out.clear();
        for (const auto& [key, item] : json.get_ref<const Json::object_t&>()) {
            if (Result<void> nul = check_nul(key, path, limits); !nul) {
                return nul;
            }
            if (Result<void> read = read_value(item, Path{.parent = &path, .name = key}, limits, out[key]); !read) {
                return read;
            }
        }
        return {};
    } else {
        return read_struct(json, path, out);
    }
}

template <typename Struct, typename T>
constexpr bool required(const Field<Struct, T>& field) {
    return !kIsOptional<T> && !field.has_default;
}

template <typename T, typename U>
Result<void> read_field(const Json& json, const Path& path, const Field<T, U>& field, T& out) {
    const auto place = json.find(field.name);
    const Path inner{.parent = &path, .name = field.name};
    if (place == json.end()) {
        return required(field) ? Result<void>(invalid(inner, "is required")) : Result<void>();
    }
    Limits limits = field.limits;
    limits.no_nul = Fields<T>::use == Use::Params;
    return read_value(*place, inner, limits, out.*(field.member));
}

template <typename T>
auto names() {
    return std::apply(
        [](const auto&... field) { return std::array<std::string_view, sizeof...(field)>{field.name...}; },
        Fields<T>::list);
}

template <typename T>
Result<void> read_struct(const Json& json, const Path& path, T& out) {
    if (!json.is_object()) {
        return mismatch(path, "an object", json);
    }
    if constexpr (Fields<T>::use == Use::Params) {
        const auto known = names<T>();
        for (const auto& [key, value] : json.get_ref<const Json::object_t&>()) {
            if (std::find(known.begin(), known.end(), key) == known.end()) {
                return invalid(Path{.parent = &path, .name = key}, "there is no such field");
            }
        }
    }
    Result<void> outcome;
    const auto read_one = [&](const auto& field) {
        outcome = read_field(json, path, field, out);
        return outcome.ok();
    };
    std::apply([&](const auto&... field) { static_cast<void>((read_one(field) && ...)); }, Fields<T>::list);
    return outcome;
}

// Text that JSON takes as it is.
inline bool is_plain(std::string_view text) {
    // Without an early end, which no compiler makes many at a time of.
    bool plain = true;
    for (const char c : text) {
        plain &= c >= ' ' && c <= '~' && c != '"' && c != '\\';
    }
    return plain;
}

inline void append_string(std::string& out, std::string_view text) {
    if (is_plain(text)) {
        out += '"';
        out += text;
        out += '"';
    } else {
        out += dump_json(text);
    }
}

template <typename T>
void append_value(std::string& out, const T& value);

template <typename Struct>
void append_struct(std::string& out, const Struct& value) {
    char before = '{';
    const auto append_field = [&]<typename T>(const Field<Struct, T>& field) {
        const T& member = value.*(field.member);
        if constexpr (kIsOptional<T>) {
            if (field.is_omitted && !member) {
                return;
            }
        }
        out += std::exchange(before, ',');
        out += '"';
        out += field.name;
        out += "\":";
        append_value(out, member);
    };
    std::apply([&](const auto&... field) { (append_field(field), ...); }, Fields<Struct>::list);
    out += before == '{' ? "{}" : "}";
}

template <typename T>
void append_value(std::string& out, const T& value) {
    if constexpr (kIsOptional<T>) {
        if (value) {
            append_value(out, *value);
        } else {
            out += "null";
        }
    } else if constexpr (std::is_pointer_v<T>) {
        append_value(out, *value);
    } else if constexpr (std::is_enum_v<T>) {
        append_string(out, to_string(value));
    } else if constexpr (std::is_same_v<T, std::string>) {
        append_string(out, value);
    } else if constexpr (std::is_same_v<T, bool>) {
        out += value ? "true" : "false";
    } else if constexpr (std::is_integral_v<T>) {
        out += std::to_string(value);
    } else if constexpr (std::is_floating_point_v<T> || std::is_same_v<T, Json>) {
        out += dump_json(value);
    } else if constexpr (kIsVector<T>) {
        out += '[';
        const std::size_t begin = out.size();
        for (const auto& item : value) {
            if (&item != &value.front()) {
                out += ',';
            }
            append_value(out, item);
            if (&item == &value.front()) {
                // The others are about as long, unless they are not.
                constexpr std::size_t kMost = 1024 * 1024;
                out.reserve(begin + std::min((out.size() - begin + 1) * value.size(), kMost));
            }
        }
        out += ']';
    } else if constexpr (kIsMap<T>) {
        char before = '{';
        for (const auto& [key, item] : value) {
            out += std::exchange(before, ',');
            append_string(out, key);
            out += ':';
            append_value(out, item);
        }
        out += before == '{' ? "{}" : "}";
    } else {
        append_struct(out, value);
    }
}

inline Json nullable(Json schema) {
    if (!schema.contains("type")) {
        return {{"oneOf", Json::array({std::move(schema), {{"type", "null"}}})}};
    }
    schema["type"] = Json::array({schema["type"], "null"});
    if (const auto values = schema.find("enum"); values != schema.end()) {
        values->push_back(nullptr);
    }
    return schema;
}

template <typename T>
Json struct_schema(Json& components);

template <typename T>
Json value_schema(const Limits& limits, Json& components) {
    if constexpr (kIsOptional<T>) {
        return nullable(value_schema<typename T::value_type>(limits, components));
    } else if constexpr (std::is_same_v<T, Json>) {
        return Json::object();
    } else if constexpr (std::is_same_v<T, bool>) {
        return {{"type", "boolean"}};
    } else if constexpr (std::is_integral_v<T>) {
        Json schema = {{"type", "integer"}};
        if (limits.min || std::is_unsigned_v<T>) {
            schema["minimum"] = lowest<T>(limits);
        }
        if (limits.max) {
            schema["maximum"] = highest<T>(limits);
        }
        return schema;
    } else if constexpr (std::is_floating_point_v<T>) {
        return {{"type", "number"}};
    } else if constexpr (std::is_same_v<T, std::string>) {
        return {{"type", "string"}};
    } else if constexpr (std::is_enum_v<T>) {
        Json values = Json::array();
        for (const T value : Values<T>::list) {
            values.push_back(to_string(value));
        }
        return {{"type", "string"}, {"enum", std::move(values)}};
    } else if constexpr (kIsVector<T>) {
        Json schema = {{"type", "array"}, {"items", value_schema<typename T::value_type>(limits, components)}};
        if (limits.min_items > 0) {
            schema["minItems"] = limits.min_items;
        }
        return schema;
    } else if constexpr (kIsMap<T>) {
        return {{"type", "object"},
                {"additionalProperties", value_schema<typename T::mapped_type>(limits, components)}};
    } else {
        return struct_schema<T>(components);
    }
}

template <typename Struct, typename T>
Json field_schema(const Field<Struct, T>& field, Json& components) {
    Json schema = value_schema<T>(field.limits, components);
    if (field.has_default) {
        std::string text;
        append_value(text, Struct{}.*(field.member));
        schema["default"] = *parse_json(text);
    }
    // JSON Schema draft 7 ignores what stands beside a $ref.
    if (!schema.contains("$ref")) {
        schema["description"] = field.doc;
    }
    return schema;
}

template <typename T>
Json struct_schema(Json& components) {
    const std::string name(Fields<T>::name);
    if (!components.contains(name)) {
        Json properties = Json::object();
        Json always = Json::array();
        const auto add = [&](const auto& field) {
            properties[std::string(field.name)] = field_schema(field, components);
            if ((Fields<T>::use == Use::Result && !field.is_omitted) || required(field)) {
                always.push_back(field.name);
            }
        };
        std::apply([&](const auto&... field) { (add(field), ...); }, Fields<T>::list);
        Json schema = {{"type", "object"}, {"properties", std::move(properties)}, {"required", std::move(always)}};
        if (Fields<T>::use == Use::Params) {
            schema["additionalProperties"] = false;
        }
        components[name] = std::move(schema);
    }
    return {{"$ref", "#/components/schemas/" + name}};
}

}  // namespace detail
}  // namespace cmssh::api
