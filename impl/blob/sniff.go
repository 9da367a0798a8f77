package blob

import (
	"bytes"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// headSize is how many of a blob's first bytes its type is told by: as many as the
// library looks at.
const headSize = 4096

// Type is the media type of a blob that begins with head: the format that its first
// bytes show, among those that the reference knows and under its names, else the one
// that the client declared, without parameters. Texts, HTML, SVG, JSON and scripts have
// no magic bytes and are what the client says they are.
func Type(head []byte, declared string) string {
	if len(head) > headSize {
		head = head[:headSize]
	}
	if bytes.HasPrefix(head, []byte("<?xml ")) {
		return "application/xml"
	}
	for m := mimetype.Detect(head); m != nil; m = m.Parent() {
		name, _, _ := strings.Cut(m.String(), ";")
		if known, ok := formats[name]; ok {
			if known == "audio/ogg" && len(head) >= 36 && string(head[28:36]) == "OpusHead" {
				return "audio/ogg; codecs=opus"
			}
			return known
		}
	}
	declared, _, _ = strings.Cut(declared, ";")
	if declared = strings.TrimSpace(declared); declared != "" {
		return declared
	}
	return "application/octet-stream"
}

// formats are the media types that bytes alone decide, from the library's name to the
// reference's. What one of them does not recognise stays as the client declared it.
var formats = func() map[string]string {
	m := map[string]string{
		"application/vnd.debian.binary-package":         "application/x-deb",
		"application/vnd.microsoft.portable-executable": "application/x-msdownload",
		"application/vnd.ms-visio.drawing.main+xml":     "application/vnd.visio",
		"application/vnd.nintendo.snes.rom":             "application/x-nintendo-nes-rom",
		"application/vnd.rar":                           "application/x-rar-compressed",
		"application/vnd.rn-realmedia-vbr":              "application/vnd.rn-realmedia",
		"application/vnd.shp":                           "application/x-esri-shape",
		"application/vnd.sqlite3":                       "application/x-sqlite3",
		"application/x-archive":                         "application/x-unix-archive",
		"application/x-chrome-extension":                "application/x-google-chrome-extension",
		"application/x-java-applet":                     "application/java-vm",
		"application/x-ole-storage":                     "application/x-cfb",
		"audio/musepack":                                "audio/x-musepack",
		"audio/x-unknown":                               "audio/x-voc",
		"image/jxr":                                     "image/vnd.ms-photo",
		"image/x-icns":                                  "image/icns",
		"text/rtf":                                      "application/rtf",
		"video/mj2":                                     "image/mj2",
		"video/x-msvideo":                               "video/vnd.avi",
	}
	for name := range strings.FieldsSeq(`
		application/dicom application/epub+zip application/gzip application/java-archive
		application/lzip application/ogg application/pdf application/postscript
		application/vnd.android.package-archive application/vnd.apache.parquet
		application/vnd.ms-cab-compressed application/vnd.ms-fontobject
		application/vnd.ms-htmlhelp application/vnd.ms-outlook
		application/vnd.oasis.opendocument.graphics
		application/vnd.oasis.opendocument.graphics-template
		application/vnd.oasis.opendocument.presentation
		application/vnd.oasis.opendocument.presentation-template
		application/vnd.oasis.opendocument.spreadsheet
		application/vnd.oasis.opendocument.spreadsheet-template
		application/vnd.oasis.opendocument.text
		application/vnd.oasis.opendocument.text-template
		application/vnd.openxmlformats-officedocument.presentationml.presentation
		application/vnd.openxmlformats-officedocument.spreadsheetml.sheet
		application/vnd.openxmlformats-officedocument.wordprocessingml.document
		application/vnd.tcpdump.pcap application/wasm application/x-7z-compressed
		application/x-bzip2 application/x-cpio application/x-elf
		application/x-mach-binary application/x-mobipocket-ebook application/x-ms-shortcut
		application/x-rpm application/x-shockwave-flash application/x-tar
		application/x-xz application/zip application/zstd
		audio/aac audio/aiff audio/amr audio/ape audio/flac audio/midi audio/mp4
		audio/mpeg audio/ogg audio/qcelp audio/wav audio/x-m4a
		font/collection font/otf font/ttf font/woff font/woff2
		image/apng image/avif image/bmp image/bpg image/gif image/heic
		image/heic-sequence image/heif image/heif-sequence image/jp2 image/jpeg
		image/jpm image/jpx image/jxl image/png image/tiff image/vnd.adobe.photoshop
		image/vnd.dwg image/webp image/x-icon image/x-xcf
		model/gltf-binary text/calendar text/vcard text/vtt
		video/3gpp video/3gpp2 video/matroska video/mp4 video/mpeg video/ogg
		video/quicktime video/webm video/x-flv video/x-m4v video/x-ms-asf`) {
		m[name] = name
	}
	return m
}()
