package bfia

import (
	"encoding/json"
	"strings"
)

// ParseComponent reads the registration of one component in the specification's form (part 2, 5.8): imageUrl
// and component_info.
//
// It returns the [Registration] of a Docker provider with this component. The description keeps the image,
// since another component of the same provider and version can have another one.
func ParseComponent(body []byte) (*Registration, error) {
	var object map[string]json.RawMessage
	if err := DecodeJSON(body, &object); err != nil {
		return nil, err
	}
	var image string
	var info map[string]json.RawMessage
	err := DecodeFields(object, Required("imageUrl", &image), Required("component_info", &info))
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(image) == "" {
		return nil, Errorf(CodeBadRequest, "imageUrl: is required")
	}
	var name, provider, version string
	err = DecodeFields(info, Required("componentName", &name), Required("provider", &provider),
		Required("version", &version))
	if err == nil {
		err = CheckID("provider", provider)
	}
	if err == nil {
		err = CheckID("version", version)
	}
	if err != nil {
		return nil, PrefixField("component_info", err)
	}
	info["imageUrl"] = object["imageUrl"]
	description, err := json.Marshal(info)
	if err != nil {
		return nil, Wrap(CodeBadRequest, err, "component_info: is not readable as JSON")
	}
	if _, err := ParseDescription(name, description); err != nil {
		return nil, PrefixField("component_info", err)
	}
	return &Registration{
		Name:        provider,
		Device:      DeviceDocker,
		Version:     version,
		Metadata:    Metadata{Image: image},
		Protocol:    "bfia",
		Description: map[string]json.RawMessage{name: description},
	}, nil
}
