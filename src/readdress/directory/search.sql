-- list_all
-- {where} is built of the fragments at the end. The order is that of creation, which never changes.
SELECT e.id, e.id, e.instance_id, e.address, e.display_name, e.description, e.created_ms, e.modified_ms, r.alias_id
FROM email_address e LEFT JOIN alias r ON r.primary_id = e.id
WHERE e.instance_id = :instance_id AND e.id > :after AND {where}
ORDER BY e.id LIMIT :limit;

-- count_all
SELECT count(*) FROM (
    SELECT 1 FROM email_address e WHERE e.instance_id = :instance_id AND {where} LIMIT :limit) AS hits;

-- list_tagged
-- The same order, found by the index of tags.
SELECT e.id, e.id, e.instance_id, e.address, e.display_name, e.description, e.created_ms, e.modified_ms, r.alias_id
FROM tag g JOIN email_address e ON e.id = g.resource_id LEFT JOIN alias r ON r.primary_id = e.id
WHERE g.key = :tag_key AND g.value = :tag_value AND g.resource_id > :after
    AND e.instance_id = :instance_id AND {where}
ORDER BY g.resource_id LIMIT :limit;

-- count_tagged
SELECT count(*) FROM (
    SELECT 1 FROM tag g JOIN email_address e ON e.id = g.resource_id
    WHERE g.key = :tag_key AND g.value = :tag_value AND e.instance_id = :instance_id AND {where} LIMIT :limit) AS hits;

-- list_keyed
-- The one address that can have a whole text.
SELECT e.id, e.id, e.instance_id, e.address, e.display_name, e.description, e.created_ms, e.modified_ms, r.alias_id
FROM email_address e LEFT JOIN alias r ON r.primary_id = e.id
WHERE e.address_key = :address_key AND e.instance_id = :instance_id AND e.id > :after AND {where}
LIMIT :limit;

-- count_keyed
SELECT count(*) FROM (
    SELECT 1 FROM email_address e
    WHERE e.address_key = :address_key AND e.instance_id = :instance_id AND {where} LIMIT :limit) AS hits;

-- where_equal
{column} = :{value};

-- where_like
{column} LIKE :{value} ESCAPE '!';

-- where_tagged
EXISTS (SELECT 1 FROM tag t WHERE t.resource_id = e.id AND t.key = :{key} AND t.value = :{value});

-- where_tagged_at_all
EXISTS (SELECT 1 FROM tag t WHERE t.resource_id = e.id AND t.key = :{key});
