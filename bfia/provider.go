package bfia

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Device is the kind of driver that runs a provider's components.
type Device string

// The devices.
const (
	DeviceDocker     Device = "docker"  // an image
	DeviceProcess    Device = "process" // a command on the operator's allow list
	DeviceKubernetes Device = "k8s"     // an image, run as a Kubernetes Job
)

// Registration registers a provider: a vendor's algorithms at one version for one device.
type Registration struct {
	Name        string                     `json:"name"`
	Device      Device                     `json:"device"`
	Version     string                     `json:"version"`
	Metadata    Metadata                   `json:"metadata"`
	Protocol    string                     `json:"protocol"`
	Description map[string]json.RawMessage `json:"components_description"`
}

// Metadata names what to run: an image for the devices docker and k8s, a command for the device process.
type Metadata struct {
	BaseURL string   `json:"base_url"`
	Image   string   `json:"image,omitempty"`
	Command []string `json:"command,omitempty"`
	// Constraints are labels that a runner must have, such as gpu: "1". They are Hutong's addition.
	Constraints providerLabels `json:"requires,omitempty"`
	// Session is [SessionPerTask] if each task needs a session of its own, since its topics don't name the
	// task. It is Hutong's addition, and must be the same at all parties.
	Session string `json:"session,omitempty"`
	// Allow asks for exceptions from the container profile.
	Allow Exceptions `json:"allow,omitzero"`
}

// The values of [Metadata.Session].
const (
	SessionPerJob  = "job" // the default: all first attempts of tasks share the job's session
	SessionPerTask = "task"
)

// FullName returns name:version@device.
func (r *Registration) FullName() string {
	return fmt.Sprintf("%s:%s@%s", r.Name, r.Version, r.Device)
}

// ParseProviderName reads name:version@device. Version and device are optional.
func ParseProviderName(full string) (*Registration, error) {
	r := &Registration{}
	rest, device, _ := strings.Cut(full, "@")
	r.Name, r.Version, _ = strings.Cut(rest, ":")
	r.Device = Device(device)
	if r.Name == "" {
		return nil, Errorf(CodeBadRequest, "provider_name: %q is not of the form name:version@device", full)
	}
	return r, nil
}

// ParseRegistration reads and checks a registration. It checks the structure, but not the descriptive texts,
// in which published descriptions contradict themselves.
func ParseRegistration(body []byte) (*Registration, error) {
	var r Registration
	if err := DecodeJSON(body, &r); err != nil {
		return nil, err
	}
	if err := CheckID("name", r.Name); err != nil {
		return nil, err
	}
	if err := CheckID("version", r.Version); err != nil {
		return nil, err
	}
	if r.Protocol == "" {
		r.Protocol = "bfia"
	}
	if r.Protocol != "bfia" {
		return nil, Errorf(CodeBadRequest, "protocol: %q is not supported, must be \"bfia\"", r.Protocol)
	}
	switch r.Device {
	case DeviceDocker, DeviceKubernetes:
		if strings.TrimSpace(r.Metadata.Image) == "" {
			return nil, Errorf(CodeBadRequest, "metadata.image: is required for device %q", r.Device)
		}
	case DeviceProcess:
		if len(r.Metadata.Command) == 0 || r.Metadata.Command[0] == "" {
			return nil, Errorf(CodeBadRequest,
				"metadata.command: is required for device \"process\": a list, the program's path first")
		}
	case "":
		return nil, Errorf(CodeBadRequest, "device: is required: \"docker\", \"process\" or \"k8s\"")
	default:
		return nil, Errorf(CodeBadRequest,
			"device: %q is not supported, must be \"docker\", \"process\" or \"k8s\"", r.Device)
	}
	if err := CheckLabels("metadata.requires", r.Metadata.Constraints); err != nil {
		return nil, err
	}
	switch r.Metadata.Session {
	case "", SessionPerJob, SessionPerTask:
	default:
		return nil, Errorf(CodeBadRequest, "metadata.session: is %q, must be \"job\" or \"task\"",
			r.Metadata.Session)
	}
	if len(r.Description) == 0 {
		return nil, Errorf(CodeBadRequest, "components_description: at least one component is required")
	}
	for _, name := range sortedKeys(r.Description) {
		if _, err := ParseDescription(name, r.Description[name]); err != nil {
			return nil, PrefixField("components_description."+name, err)
		}
	}
	return &r, nil
}

// Description is a component's self-description (part 2, 6.1; part 3, 2).
type Description struct {
	ComponentName string          `json:"componentName"`
	Title         string          `json:"title"`
	Description   freeText        `json:"description"`
	Provider      string          `json:"provider"`
	Version       string          `json:"version"`
	RoleList      []string        `json:"roleList"`
	StorageEngine []string        `json:"storageEngine"`
	InputParam    []InputParam    `json:"inputParam"`
	InputData     []DataPort      `json:"inputData"`
	OutputData    []DataPort      `json:"outputData"`
	Result        json.RawMessage `json:"result"`
	// ImageURL is the component's own image, if it was registered with one (part 2, 5.8). Empty: that of its
	// provider.
	ImageURL string `json:"imageUrl"`
}

// InputParam describes one parameter (part 2, 6.5). Hutong never adds defaults to a component's environment:
// they are the component's own.
type InputParam struct {
	Name         string          `json:"name"`
	Type         string          `json:"type"`
	Optional     flexBool        `json:"optional"`
	DefaultValue json.RawMessage `json:"defaultValue"`
	BindingData  json.RawMessage `json:"bindingData"` // a list of {label, value}, or a string
	Validator    json.RawMessage `json:"validator"`   // a string; see parseValidator
	DependsOn    json.RawMessage `json:"dependsOn"`   // a list of "parameter.value", or a string
}

// Required reports whether a job must give the parameter: it is not optional and has no default.
func (p InputParam) Required() bool {
	return p.Optional == "false" && (len(p.DefaultValue) == 0 || string(p.DefaultValue) == "null")
}

// DataPort describes one input or output (part 2, 6.3 and 6.4).
type DataPort struct {
	Name        string   `json:"name"`
	Description freeText `json:"description"`
	Category    string   `json:"category"`
}

// freeText is a text for people. What is no text is ignored: nothing depends on it, and descriptions are not
// refused for it.
type freeText string

func (t *freeText) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*t = freeText(text)
	}
	return nil
}

// flexBool is true, false, "true" or "false": the specification's examples use all four.
type flexBool string

func (f *flexBool) UnmarshalJSON(b []byte) error {
	switch strings.ToLower(strings.Trim(string(b), `"`)) {
	case "true", "", "null":
		*f = "true"
	case "false":
		*f = "false"
	default:
		return Errorf(CodeBadRequest, "optional: is %s, must be true or false", b)
	}
	return nil
}

// ParseDescription reads and checks the self-description of a component.
func ParseDescription(name string, raw []byte) (*Description, error) {
	var present map[string]json.RawMessage
	if err := DecodeJSON(raw, &present); err != nil {
		return nil, err
	}
	var d Description
	err := DecodeFields(present,
		Required("componentName", &d.ComponentName),
		Required("title", &d.Title),
		Required("provider", &d.Provider),
		Required("version", &d.Version),
		Required("roleList", ListOf(&d.RoleList)),
		Required("storageEngine", ListOf(&d.StorageEngine)),
		Required("inputParam", ListOf(&d.InputParam)),
		Required("inputData", ListOf(&d.InputData)),
		Required("outputData", ListOf(&d.OutputData)),
		Required("result", &d.Result),
		Optional("description", &d.Description),
		Optional("imageUrl", &d.ImageURL))
	if err != nil {
		return nil, err
	}
	if err := CheckID("componentName", d.ComponentName); err != nil {
		return nil, err
	}
	if d.ComponentName != name {
		return nil, Errorf(CodeBadRequest, "componentName: is %q under the key %q", d.ComponentName, name)
	}
	if len(d.RoleList) == 0 {
		return nil, Errorf(CodeBadRequest, "roleList: at least one role is required")
	}
	for i, role := range d.RoleList {
		if err := CheckID(fmt.Sprintf("roleList[%d]", i), role); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	for i, p := range d.InputParam {
		field := fmt.Sprintf("inputParam[%d].name", i)
		if err := CheckID(field, p.Name); err != nil {
			return nil, err
		}
		if p.Type == "" {
			return nil, Errorf(CodeBadRequest, "inputParam[%d].type: is required", i)
		}
		if seen[p.Name] {
			return nil, Errorf(CodeBadRequest, "%s: %q is given twice", field, p.Name)
		}
		seen[p.Name] = true
	}
	if err := checkPorts("inputData", d.InputData); err != nil {
		return nil, err
	}
	if err := checkPorts("outputData", d.OutputData); err != nil {
		return nil, err
	}
	return &d, nil
}

func checkPorts(field string, ports []DataPort) error {
	seen := map[string]bool{}
	for i, p := range ports {
		if err := CheckID(fmt.Sprintf("%s[%d].name", field, i), p.Name); err != nil {
			return err
		}
		if err := CheckID(fmt.Sprintf("%s[%d].category", field, i), p.Category); err != nil {
			return err
		}
		if seen[p.Name] {
			return Errorf(CodeBadRequest, "%s[%d].name: %q is given twice", field, i, p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}
