package upstream

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"strings"

	"portico/api/brotli"
)

// maxLayers is how many encodings may lie on each other.
const maxLayers = 3

// unpack undoes the encodings, the last first, of what becomes at most so many bytes.
func unpack(body []byte, encodings []string, most int64) ([]byte, error) {
	layers, err := layersOf(encodings)
	if err != nil {
		return nil, err
	}
	if len(layers) == 0 {
		return body, nil
	}
	var r io.Reader = bytes.NewReader(body)
	for i := len(layers) - 1; i >= 0; i-- {
		wanted := most + 1
		if i > 0 { // what is packed once more may be larger than what it is of
			wanted = 2*most + 1<<10
		}
		switch layers[i] {
		case "gzip", "x-gzip":
			r, err = gzip.NewReader(r)
		case "deflate":
			r, err = zlib.NewReader(r)
		case "br":
			r, err = brotli.NewReader(r, wanted)
		}
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", layers[i], err)
		}
	}
	out, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	if int64(len(out)) > most {
		return nil, errTooLarge
	}
	return out, nil
}

// layersOf are the encodings that a body has, as they were applied.
func layersOf(encodings []string) ([]string, error) {
	var layers []string
	for _, line := range encodings {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.ToLower(strings.TrimSpace(name)); name {
			case "identity", "":
			case "gzip", "x-gzip", "deflate", "br":
				layers = append(layers, name)
			default:
				return nil, fmt.Errorf("unknown content encoding %q", name)
			}
		}
	}
	if len(layers) > maxLayers {
		return nil, fmt.Errorf("%d content encodings", len(layers))
	}
	return layers, nil
}
