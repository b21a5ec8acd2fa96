package driver

import (
	"errors"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// GPUKind says how an entry of [Spec].GPUs names a GPU.
type GPUKind int

// The kinds of names of GPUs.
const (
	GPUInvalid    GPUKind = iota
	GPUNvidia             // the index or UUID that nvidia-smi -L shows: 0, GPU-8f3c..., MIG-...
	GPUCDI                // a name of the Container Device Interface: vendor.com/class=name
	GPUDeviceFile         // the path of a device file: /dev/dri/renderD128
)

var (
	nvidiaName = regexp.MustCompile(`^([0-9]{1,3}|(GPU|MIG)-[0-9A-Za-z-/]{1,100})$`)
	cdiName    = regexp.MustCompile(`^[A-Za-z][\w.-]*[A-Za-z0-9]/[A-Za-z][\w.-]*=[A-Za-z0-9][\w.:-]*$`)
)

// KindOfGPU returns how a name names a GPU.
func KindOfGPU(name string) GPUKind {
	switch {
	case nvidiaName.MatchString(name):
		return GPUNvidia
	case cdiName.MatchString(name):
		return GPUCDI
	case strings.HasPrefix(name, "/dev/") && path.Clean(name) == name && !strings.ContainsAny(name, ",:\x00"):
		return GPUDeviceFile
	}

	return GPUInvalid
}

// CheckGPU returns an error if a name names no GPU.
func CheckGPU(name string) error {
	if KindOfGPU(name) == GPUInvalid {
		return errors.New("must be an index or UUID that nvidia-smi -L shows, a CDI name such as " +
			"nvidia.com/gpu=0, or the path of a device file below /dev, but is " + strconv.Quote(name))
	}

	return nil
}
