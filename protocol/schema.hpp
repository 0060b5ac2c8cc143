// One list of fields per API struct, from which reading, writing and the JSON Schema are made. A struct's list is a
// specialisation of Fields, in methods.cpp; only that file includes this one.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "protocol/methods.hpp"

namespace cmssh::api {

// A struct's fields: name on the wire, member, what it is, and whether a reader insists on it.
enum class Presence { Required, Optional };

template <typename Struct, typename Member>
struct Field {
    std::string_view name;
    Member Struct::*member;
    std::string_view text;
    Presence presence = Presence::Optional;
    std::int64_t least = 0;  // of an integer
    std::int64_t most = std::numeric_limits<std::int32_t>::max();
};

template <typename Struct, typename Member>
constexpr Field<Struct, Member> required(std::string_view name, Member Struct::*member, std::string_view text) {
    return {name, member, text, Presence::Required};
}
template <typename Struct, typename Member>
constexpr Field<Struct, Member> optional(std::string_view name, Member Struct::*member, std::string_view text) {
    return {name, member, text, Presence::Optional};
}
template <typename Struct, typename Member>
constexpr Field<Struct, Member> ranged(std::string_view name, Member Struct::*member, std::string_view text,
                                       Presence presence, std::int64_t least, std::int64_t most) {
    return {name, member, text, presence, least, most};
}

// Specialised with `static constexpr std::string_view name` (in components/schemas; empty: written in place) and
// `static constexpr auto list = std::make_tuple(…)`.
template <typename Struct>
struct Fields;

template <typename T>
concept Listed = requires { Fields<T>::list; };

// The words of an enumeration, in the order of its enumerators from 0.
template <typename Enum>
struct Words;

template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};
template <typename T>
struct IsMap : std::false_type {};
template <typename T>
struct IsMap<std::map<std::string, T>> : std::true_type {};

inline Error unexpected(const std::string& path, std::string_view expected, const Json& got) {
    constexpr std::size_t kShown = 60;
    std::string shown = dump_json(got);
    if (shown.size() > kShown) {
        shown = shown.substr(0, kShown) + "…";
    }
    return Error{.kind = ErrorKind::InvalidParams,
                 .message = path + ": expected " + std::string(expected) + ", got " + shown};
}

template <typename T>
std::optional<Error> read_struct(const Json& json, T& value, const std::string& path);

template <typename T>
std::optional<Error> read_value(const Json& json, T& value, const std::string& path, std::int64_t least,
                                std::int64_t most) {
    if constexpr (IsOptional<T>::value) {
        if (json.is_null()) {
            value.reset();
            return std::nullopt;
        }
        return read_value(json, value.emplace(), path, least, most);
    } else if constexpr (std::is_same_v<T, Json>) {
        value = json;
        return std::nullopt;
    } else if constexpr (std::is_same_v<T, bool>) {
        if (!json.is_boolean()) {
            return unexpected(path, "true or false", json);
        }
        value = json.get<bool>();
        return std::nullopt;
    } else if constexpr (std::is_enum_v<T>) {
        std::string expected;
        for (std::size_t i = 0; i < Words<T>::list.size(); ++i) {
            if (json.is_string() && json.get_ref<const std::string&>() == Words<T>::list[i]) {
                value = static_cast<T>(i);
                return std::nullopt;
            }
            expected += (i == 0 ? "" : ", ") + std::string(Words<T>::list[i]);
        }
        return unexpected(path, "one of " + expected, json);
    } else if constexpr (std::is_integral_v<T>) {
        // nlohmann would turn 3000000000 into a negative int and 1.9 into 1 without a word.
        const bool fits = json.is_number_unsigned()
                              ? json.get<std::uint64_t>() <= static_cast<std::uint64_t>(most) &&
                                    (least <= 0 || json.get<std::uint64_t>() >= static_cast<std::uint64_t>(least))
                              : json.is_number_integer() && json.get<std::int64_t>() >= least &&
                                    json.get<std::int64_t>() <= most;
        if (!fits) {
            return unexpected(path, "an integer from " + std::to_string(least) + " to " + std::to_string(most), json);
        }
        value = json.get<T>();
        return std::nullopt;
    } else if constexpr (std::is_floating_point_v<T>) {
        if (!json.is_number()) {
            return unexpected(path, "a number", json);
        }
        value = json.get<T>();
        return std::nullopt;
    } else if constexpr (std::is_same_v<T, std::string>) {
        if (!json.is_string()) {
            return unexpected(path, "a string", json);
        }
        value = json.get_ref<const std::string&>();
        return std::nullopt;
    } else if constexpr (IsVector<T>::value) {
        if (!json.is_array()) {
            return unexpected(path, "an array", json);
        }
        value.clear();
        value.reserve(json.size());
        for (std::size_t i = 0; i < json.size(); ++i) {
            if (auto error = read_value(json[i], value.emplace_back(), path + '[' + std::to_string(i) + ']', least, most)) {
                return error;
            }
        }
        return std::nullopt;
    } else if constexpr (IsMap<T>::value) {
        if (!json.is_object()) {
            return unexpected(path, "an object", json);
        }
        value.clear();
        for (const auto& [name, item] : json.items()) {
            if (auto error = read_value(item, value[name], path + '.' + name, least, most)) {
                return error;
            }
        }
        return std::nullopt;
    } else {
        return read_struct(json, value, path);
    }
}

template <typename T>
std::optional<Error> read_struct(const Json& json, T& value, const std::string& path) {
    if (!json.is_object()) {
        return unexpected(path, "an object", json);
    }
    std::optional<Error> error;
    std::size_t found = 0;
    const auto read_field = [&](const auto& field) {
        if (error) {
            return;
        }
        const std::string field_path = path + '.' + std::string(field.name);
        const auto item = json.find(field.name);
        if (item == json.end()) {
            if (field.presence == Presence::Required) {
                error = Error{.kind = ErrorKind::InvalidParams, .message = field_path + ": is missing"};
            }
            return;
        }
        ++found;
        error = read_value(*item, value.*field.member, field_path, field.least, field.most);
    };
    std::apply([&](const auto&... field) { (read_field(field), ...); }, Fields<T>::list);
    if (error || found == json.size()) {
        return error;
    }
    // Something is there that is in no list: name it.
    for (const auto& [name, item] : json.items()) {
        const bool known = std::apply([&name = name](const auto&... field) { return ((field.name == name) || ...); },
                                      Fields<T>::list);
        if (!known) {
            return Error{.kind = ErrorKind::InvalidParams,
                         .message = path + '.' + name + ": no such field",
                         .hint = "rpc.discover lists the fields"};
        }
    }
    return error;
}

template <typename T>
Json write_value(const T& value) {
    if constexpr (IsOptional<T>::value) {
        return value ? write_value(*value) : Json(nullptr);
    } else if constexpr (std::is_enum_v<T>) {
        return Words<T>::list[static_cast<std::size_t>(value)];
    } else if constexpr (IsVector<T>::value) {
        Json array = Json::array();
        for (const auto& item : value) {
            array.push_back(write_value(item));
        }
        return array;
    } else if constexpr (IsMap<T>::value) {
        Json object = Json::object();
        for (const auto& [name, item] : value) {
            object[name] = write_value(item);
        }
        return object;
    } else if constexpr (Listed<T>) {
        Json object = Json::object();
        std::apply([&](const auto&... field) { ((object[std::string(field.name)] = write_value(value.*field.member)), ...); },
                   Fields<T>::list);
        return object;
    } else {
        return value;
    }
}

// The schema of a struct that has a name goes to `components` and is referred to.
template <typename T>
Json schema_of(Json& components, std::int64_t least = 0, std::int64_t most = std::numeric_limits<std::int64_t>::max()) {
    if constexpr (IsOptional<T>::value) {
        return {{"anyOf", Json::array({schema_of<typename T::value_type>(components, least, most), Json{{"type", "null"}}})}};
    } else if constexpr (std::is_same_v<T, Json>) {
        return Json::object();
    } else if constexpr (std::is_same_v<T, bool>) {
        return {{"type", "boolean"}};
    } else if constexpr (std::is_enum_v<T>) {
        return {{"type", "string"}, {"enum", Words<T>::list}};
    } else if constexpr (std::is_integral_v<T>) {
        Json schema = {{"type", "integer"}, {"minimum", least}};
        if (most != std::numeric_limits<std::int64_t>::max()) {
            schema["maximum"] = most;
        }
        return schema;
    } else if constexpr (std::is_floating_point_v<T>) {
        return {{"type", "number"}};
    } else if constexpr (std::is_same_v<T, std::string>) {
        return {{"type", "string"}};
    } else if constexpr (IsVector<T>::value) {
        return {{"type", "array"}, {"items", schema_of<typename T::value_type>(components)}};
    } else if constexpr (IsMap<T>::value) {
        return {{"type", "object"}, {"additionalProperties", schema_of<typename T::mapped_type>(components)}};
    } else {
        Json properties = Json::object();
        Json required_names = Json::array();
        const auto add = [&](const auto& field) {
            using Member = std::remove_cvref_t<decltype(std::declval<T>().*field.member)>;
            Json schema = schema_of<Member>(components, field.least, field.most);
            if (!field.text.empty() && !schema.contains("$ref")) {
                schema["description"] = field.text;
            }
            properties[std::string(field.name)] = std::move(schema);
            if (field.presence == Presence::Required) {
                required_names.push_back(field.name);
            }
        };
        std::apply([&](const auto&... field) { (add(field), ...); }, Fields<T>::list);
        Json schema = {{"type", "object"}, {"properties", std::move(properties)}};
        if (!required_names.empty()) {
            schema["required"] = std::move(required_names);
        }
        const std::string name(Fields<T>::name);
        if (name.empty()) {
            return schema;
        }
        components[name] = std::move(schema);
        return {{"$ref", "#/components/schemas/" + name}};
    }
}

}  // namespace cmssh::api
