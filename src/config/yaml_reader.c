/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one user of libyaml. Events are pulled one by one and put on an explicit stack of open lists
 * and maps, so that a hostile file costs no more than its size. Anchors and aliases are refused:
 * with them a short file means a huge one, and a reader cannot see at one place what a key is.
 */
#include "config/yaml_reader.h"

#include "config/report.h"

#include <yaml.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>

struct yaml_reading {
    yaml_parser_t parser;
    struct esi_str text;
    struct esi_node_tree *tree;   /* borrowed */
    struct esi_node_error *error; /* borrowed */
    struct esi_node *open[ESI_NODE_DEPTH_MAX];
    size_t depth;
    bool has_key;         /* the innermost map has read a key and waits for its value */
    struct esi_node *key; /* a scalar that belongs to the tree and to no parent */
    bool has_document;
    bool is_done;
};

static struct esi_position position_of(yaml_mark_t mark)
{
    const size_t line = mark.line < UINT_MAX ? mark.line : UINT_MAX - 1;
    const size_t column = mark.column < UINT_MAX ? mark.column : UINT_MAX - 1;

    return (struct esi_position){.line = (uint32_t)line + 1, .column = (uint32_t)column + 1};
}

/* libyaml's reader (unlike its scanner) tells a byte offset only. */
static struct esi_position position_of_offset(struct esi_str text, size_t offset)
{
    struct esi_position at = {.line = 1, .column = 1};

    for (size_t i = 0; i < offset && i < text.len; i++) {
        if (text.data[i] == '\n') {
            at.line++;
            at.column = 1;
        } else if (((unsigned char)text.data[i] & 0xC0) != 0x80) {
            at.column++;
        }
    }
    return at;
}

static enum es_err refuse(struct yaml_reading *reading, struct esi_position at, enum es_err err,
                          const char *text)
{
    reading->error->at = at;
    snprintf(reading->error->text, sizeof reading->error->text, "%s", text);
    return err;
}

static enum es_err refuse_syntax(struct yaml_reading *reading)
{
    const yaml_parser_t *parser = &reading->parser;

    if (parser->error == YAML_MEMORY_ERROR) {
        return refuse(reading, (struct esi_position){1, 1}, ES_NO_MEMORY, "out of memory");
    }
    struct esi_position at = position_of(parser->problem_mark);
    if (parser->error == YAML_READER_ERROR) {
        at = position_of_offset(reading->text, parser->problem_offset);
    }
    reading->error->at = at;
    /* The index counts characters: behind others than ASCII the hint may be missed. */
    const size_t index = parser->problem_mark.index;
    const bool is_tab = index < reading->text.len && reading->text.data[index] == '\t';
    snprintf(reading->error->text, sizeof reading->error->text, "not valid YAML: %s%s",
             parser->problem != NULL ? parser->problem : "unknown problem",
             is_tab ? "; indent with blanks, not with tabs" : "");
    return ES_INVALID;
}

static enum es_err refuse_node(struct yaml_reading *reading, struct esi_position at,
                               enum es_err err)
{
    switch ((int)err) {
    case ES_TOO_LARGE:
        return refuse(reading, at, err, "the file has too many values");
    case ES_INVALID:
        return refuse(reading, at, err, "an empty key or a NUL byte is not allowed");
    default:
        return refuse(reading, at, err, "out of memory");
    }
}

/* Puts a finished scalar, or a list or map that was just opened, into its parent. */
static enum es_err place_node(struct yaml_reading *reading, struct esi_node *node)
{
    if (reading->depth == 0) {
        if (node->kind == NODE_SCALAR && node->text[0] == '\0' && !node->is_quoted) {
            return ES_OK; /* an empty document */
        }
        if (node->kind != NODE_MAP) {
            return refuse(reading, node->at, ES_INVALID, "the file must be a map of sections");
        }
        reading->tree->root = node;
        return ES_OK;
    }
    struct esi_node *parent = reading->open[reading->depth - 1];
    if (parent->kind == NODE_LIST) {
        esi_node_append(parent, node);
        return ES_OK;
    }
    if (!reading->has_key) {
        if (node->kind != NODE_SCALAR) {
            return refuse(reading, node->at, ES_INVALID, "a key must be a text");
        }
        reading->key = node;
        reading->has_key = true;
        return ES_OK;
    }
    reading->has_key = false;
    const struct esi_str key = esi_str_from(reading->key->text);
    const enum es_err err = esi_node_insert(parent, key, reading->key->at, node);
    if (err == ES_EXISTS) {
        reading->error->at = reading->key->at;
        esi_report_repeated(esi_node_find(parent, key), "is given twice in this map",
                            reading->error);
        return ES_INVALID;
    }
    return err == ES_OK ? ES_OK : refuse_node(reading, reading->key->at, err);
}

static enum es_err take_scalar(struct yaml_reading *reading, const yaml_event_t *event)
{
    struct esi_node *node = NULL;
    const struct esi_position at = position_of(event->start_mark);
    const struct esi_str text = {.data = (const char *)event->data.scalar.value,
                                 .len = event->data.scalar.length};

    if (event->data.scalar.anchor != NULL) {
        return refuse(reading, at, ES_INVALID, "anchors are not allowed");
    }
    if (event->data.scalar.tag != NULL) {
        return refuse(reading, at, ES_INVALID, "tags are not allowed");
    }
    const enum es_err err = esi_node_make(reading->tree, NODE_SCALAR, at, text, &node);
    if (err != ES_OK) {
        return refuse_node(reading, at, err);
    }
    node->is_quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return place_node(reading, node);
}

static enum es_err open_node(struct yaml_reading *reading, const yaml_event_t *event,
                             enum esi_node_kind kind)
{
    struct esi_node *node = NULL;
    const struct esi_position at = position_of(event->start_mark);
    const bool is_map = kind == NODE_MAP;

    if ((is_map ? event->data.mapping_start.anchor : event->data.sequence_start.anchor) != NULL) {
        return refuse(reading, at, ES_INVALID, "anchors are not allowed");
    }
    if ((is_map ? event->data.mapping_start.tag : event->data.sequence_start.tag) != NULL) {
        return refuse(reading, at, ES_INVALID, "tags are not allowed");
    }
    if (reading->depth == ESI_NODE_DEPTH_MAX) {
        return refuse(reading, at, ES_TOO_LARGE, "nested too deeply");
    }
    enum es_err err = esi_node_make(reading->tree, kind, at, (struct esi_str){0}, &node);
    if (err != ES_OK) {
        return refuse_node(reading, at, err);
    }
    err = place_node(reading, node);
    if (err == ES_OK) {
        reading->open[reading->depth++] = node;
    }
    return err;
}

static void close_node(struct yaml_reading *reading)
{
    reading->depth--;
    reading->has_key = false;
}

static enum es_err take_event(struct yaml_reading *reading, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return refuse(reading, position_of(event->start_mark), ES_INVALID,
                      "aliases are not allowed");
    case YAML_SCALAR_EVENT:
        return take_scalar(reading, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_node(reading, event, NODE_LIST);
    case YAML_MAPPING_START_EVENT:
        return open_node(reading, event, NODE_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        close_node(reading);
        return ES_OK;
    case YAML_DOCUMENT_START_EVENT:
        if (reading->has_document) {
            return refuse(reading, position_of(event->start_mark), ES_INVALID,
                          "a second document is not allowed");
        }
        reading->has_document = true;
        return ES_OK;
    case YAML_STREAM_END_EVENT:
        reading->is_done = true;
        return ES_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return ES_OK;
    }
    return ES_OK;
}

static enum es_err read_events(struct yaml_reading *reading)
{
    enum es_err err = ES_OK;

    while (err == ES_OK && !reading->is_done) {
        yaml_event_t event;
        if (yaml_parser_parse(&reading->parser, &event) == 0) {
            return refuse_syntax(reading);
        }
        err = take_event(reading, &event);
        yaml_event_delete(&event);
    }
    if (err == ES_OK && reading->tree->root == NULL) {
        err = esi_node_make(reading->tree, NODE_MAP, (struct esi_position){1, 1},
                            (struct esi_str){0}, &reading->tree->root);
    }
    return err;
}

enum es_err esi_yaml_reader_read(struct esi_str text, struct esi_node_tree *tree,
                                 struct esi_node_error *error)
{
    struct yaml_reading reading = {.text = text, .tree = tree, .error = error};

    if (yaml_parser_initialize(&reading.parser) == 0) {
        return refuse(&reading, (struct esi_position){1, 1}, ES_NO_MEMORY, "out of memory");
    }
    /* Told, not guessed: libyaml would take a byte order mark of UTF-16 too. */
    yaml_parser_set_encoding(&reading.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(
        &reading.parser, (const unsigned char *)(text.data != NULL ? text.data : ""), text.len);
    const enum es_err err = read_events(&reading);
    yaml_parser_delete(&reading.parser);
    return err;
}
